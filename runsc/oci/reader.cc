#include "runsc/oci/reader.h"

namespace caisson::oci {

const Json* Reader::Member(absl::string_view key) const {
  if (!error_.ok()) return nullptr;
  const Json* v = value_.Find(key);
  return v == nullptr || v->is_null() ? nullptr : v;
}

bool Reader::Has(absl::string_view key) const { return Member(key) != nullptr; }

std::string Reader::Path(absl::string_view key) const {
  if (key.empty()) return path_;
  return path_.empty() ? std::string(key) : absl::StrCat(path_, ".", key);
}

void Reader::FailAt(const std::string& path, absl::string_view what) {
  if (error_.ok()) {
    error_ = absl::InvalidArgumentError(path.empty() ? std::string(what)
                                                     : absl::StrCat(path, ": ", what));
  }
}

void Reader::Fail(absl::string_view key, absl::string_view what) { FailAt(Path(key), what); }

std::string Reader::Describe(const Json& v) {
  std::string text = v.is_object() || v.is_array() ? "" : v.ToText();
  if (text.empty() || text.size() > 40 || v.is_string()) return std::string(v.TypeName());
  return text;
}

bool Reader::String(const Json& v, const std::string& path, std::string& out) {
  const std::string* s = v.AsString();
  if (s == nullptr) {
    FailAt(path, absl::StrCat("expected a string, got ", Describe(v)));
    return false;
  }
  if (s->find('\0') != std::string::npos) {
    FailAt(path, "has a NUL byte in it");
    return false;
  }
  out = *s;
  return true;
}

void Reader::Get(absl::string_view key, std::string& out) {
  if (const Json* v = Member(key)) String(*v, Path(key), out);
}

void Reader::Get(absl::string_view key, bool& out) {
  const Json* v = Member(key);
  if (v == nullptr) return;
  if (const bool* b = v->AsBool()) {
    out = *b;
  } else {
    Fail(key, absl::StrCat("expected true or false, got ", Describe(*v)));
  }
}

void Reader::Get(absl::string_view key, std::vector<std::string>& out) {
  const Json* v = Member(key);
  if (v == nullptr) return;
  if (!v->is_array()) return Fail(key, absl::StrCat("expected an array, got ", Describe(*v)));
  out.clear();
  out.reserve(v->AsArray()->size());
  for (const Json& element : *v->AsArray()) {
    std::string s;
    if (!String(element, absl::StrCat(Path(key), "[", out.size(), "]"), s)) return;
    out.push_back(std::move(s));
  }
}

void Reader::Get(absl::string_view key, std::vector<uint32_t>& out) {
  const Json* v = Member(key);
  if (v == nullptr) return;
  if (!v->is_array()) return Fail(key, absl::StrCat("expected an array, got ", Describe(*v)));
  out.clear();
  for (const Json& element : *v->AsArray()) {
    uint32_t n = 0;
    Number(element, absl::StrCat(Path(key), "[", out.size(), "]"), n);
    if (!error_.ok()) return;
    out.push_back(n);
  }
}

void Reader::GetMap(absl::string_view key, std::vector<std::pair<std::string, std::string>>& out) {
  const Json* v = Member(key);
  if (v == nullptr) return;
  if (!v->is_object()) return Fail(key, absl::StrCat("expected an object, got ", Describe(*v)));
  for (const Json::Member& member : *v->AsObject()) {
    std::string s;
    if (member.first.find('\0') != std::string::npos) return Fail(key, "has a NUL byte in a key");
    if (!String(member.second, absl::StrCat(Path(key), ".", member.first), s)) return;
    out.emplace_back(member.first, std::move(s));
  }
}

void Reader::Object(absl::string_view key, const std::function<void(Reader&)>& read) {
  const Json* v = Member(key);
  if (v == nullptr) return;
  Reader inner(*v, Path(key), error_);
  if (error_.ok()) read(inner);
}

void Reader::Each(absl::string_view key, const std::function<void(Reader&)>& read) {
  const Json* v = Member(key);
  if (v == nullptr) return;
  if (!v->is_array()) return Fail(key, absl::StrCat("expected an array, got ", Describe(*v)));
  size_t i = 0;
  for (const Json& element : *v->AsArray()) {
    Reader inner(element, absl::StrCat(Path(key), "[", i++, "]"), error_);
    if (!error_.ok()) return;
    read(inner);
  }
}

}  // namespace caisson::oci
