#include "runsc/oci/json.h"

#include <cmath>
#include <cstdio>

#include "absl/strings/str_cat.h"

namespace caisson::oci {
namespace {

// The length of the UTF-8 sequence at the start of `in`, 0 if there is none (RFC 3629: no
// surrogates, no overlong forms, nothing above U+10FFFF).
size_t Utf8Length(absl::string_view in) {
  auto byte = [&](size_t i) { return static_cast<unsigned char>(in[i]); };
  auto tail = [&](size_t i, unsigned char low = 0x80, unsigned char high = 0xbf) {
    return i < in.size() && byte(i) >= low && byte(i) <= high;
  };
  unsigned char b = byte(0);
  if (b < 0x80) return 1;
  if (b >= 0xc2 && b <= 0xdf) return tail(1) ? 2 : 0;
  if (b >= 0xe0 && b <= 0xef) {
    bool second = tail(1, b == 0xe0 ? 0xa0 : 0x80, b == 0xed ? 0x9f : 0xbf);
    return second && tail(2) ? 3 : 0;
  }
  if (b >= 0xf0 && b <= 0xf4) {
    bool second = tail(1, b == 0xf0 ? 0x90 : 0x80, b == 0xf4 ? 0x8f : 0xbf);
    return second && tail(2) && tail(3) ? 4 : 0;
  }
  return 0;
}

void AppendString(std::string& out, absl::string_view in) {
  out += '"';
  while (!in.empty()) {
    auto c = static_cast<unsigned char>(in[0]);
    size_t n = Utf8Length(in);
    if (n == 0) {
      out += "\xef\xbf\xbd";
      n = 1;
    } else if (c == '"' || c == '\\') {
      out += '\\';
      out += static_cast<char>(c);
    } else if (c == '\n') {
      out += "\\n";
    } else if (c == '\t') {
      out += "\\t";
    } else if (c < 0x20 || c == 0x7f) {
      char buf[8];
      snprintf(buf, sizeof(buf), "\\u%04x", c);
      out += buf;
    } else {
      out.append(in.data(), n);
    }
    in.remove_prefix(n);
  }
  out += '"';
}

void AppendBreak(std::string& out, absl::string_view indent, int depth) {
  if (indent.empty()) return;
  out += '\n';
  for (int i = 0; i < depth; ++i) out.append(indent.data(), indent.size());
}

void AppendValue(std::string& out, const Json& value, absl::string_view indent, int depth) {
  if (const bool* b = value.AsBool()) {
    out += *b ? "true" : "false";
  } else if (const int64_t* i = value.AsNegative()) {
    absl::StrAppend(&out, *i);
  } else if (const uint64_t* u = value.AsUnsigned()) {
    absl::StrAppend(&out, *u);
  } else if (const double* d = value.AsDouble()) {
    char buf[32];
    snprintf(buf, sizeof(buf), "%.17g", std::isfinite(*d) ? *d : 0.0);
    out += buf;
  } else if (const std::string* s = value.AsString()) {
    AppendString(out, *s);
  } else if (const Json::ArrayType* array = value.AsArray()) {
    out += '[';
    bool first = true;
    for (const Json& element : *array) {
      if (!first) out += ',';
      first = false;
      AppendBreak(out, indent, depth + 1);
      AppendValue(out, element, indent, depth + 1);
    }
    if (!first) AppendBreak(out, indent, depth);
    out += ']';
  } else if (const Json::ObjectType* object = value.AsObject()) {
    out += '{';
    bool first = true;
    for (const Json::Member& member : *object) {
      if (!first) out += ',';
      first = false;
      AppendBreak(out, indent, depth + 1);
      AppendString(out, member.first);
      out += indent.empty() ? ":" : ": ";
      AppendValue(out, member.second, indent, depth + 1);
    }
    if (!first) AppendBreak(out, indent, depth);
    out += '}';
  } else {
    out += "null";
  }
}

}  // namespace

Json Json::Strings(const std::vector<std::string>& values) {
  Json out = Array();
  for (const std::string& value : values) out.Append(Json(value));
  return out;
}

bool Json::is_empty() const {
  if (const bool* b = AsBool()) return !*b;
  if (const uint64_t* u = AsUnsigned()) return *u == 0;
  if (const double* d = AsDouble()) return *d == 0;
  if (const std::string* s = AsString()) return s->empty();
  if (const ArrayType* a = AsArray()) return a->empty();
  if (const ObjectType* o = AsObject()) {
    for (const Member& member : *o) {
      if (!member.second.is_empty()) return false;
    }
    return true;
  }
  return is_null();
}

absl::string_view Json::TypeName() const {
  if (AsBool() != nullptr) return "a boolean";
  if (AsNegative() != nullptr || AsUnsigned() != nullptr || AsDouble() != nullptr) {
    return "a number";
  }
  if (is_string()) return "a string";
  if (is_array()) return "an array";
  if (is_object()) return "an object";
  return "null";
}

const Json* Json::Find(absl::string_view key) const {
  const ObjectType* object = AsObject();
  if (object == nullptr) return nullptr;
  for (auto it = object->rbegin(); it != object->rend(); ++it) {
    if (it->first == key) return &it->second;
  }
  return nullptr;
}

Json& Json::Set(absl::string_view key, Json value) {
  ObjectType* object = AsObject();
  for (Member& member : *object) {
    if (member.first == key) {
      member.second = std::move(value);
      return *this;
    }
  }
  object->emplace_back(std::string(key), std::move(value));
  return *this;
}

Json& Json::Append(Json value) {
  AsArray()->push_back(std::move(value));
  return *this;
}

std::string Json::ToText(absl::string_view indent) const {
  std::string out;
  AppendValue(out, *this, indent, 0);
  return out;
}

}  // namespace caisson::oci
