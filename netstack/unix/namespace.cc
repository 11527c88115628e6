#include "netstack/unix/namespace.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace caisson::netstack {

void UnixNamespace::Register(Endpoint& endpoint) {
  MutexLock lock(mu_);
  endpoints_.insert(&endpoint);
}

void UnixNamespace::Unregister(Endpoint& endpoint) {
  MutexLock lock(mu_);
  endpoints_.erase(&endpoint);
}

bool UnixNamespace::BindAbstract(Endpoint& endpoint, absl::string_view name) {
  MutexLock lock(mu_);
  return names_.try_emplace(Name(endpoint.type(), std::string(name)), &endpoint).second;
}

void UnixNamespace::UnbindAbstract(Endpoint& endpoint, absl::string_view name) {
  MutexLock lock(mu_);
  auto it = names_.find(Name(endpoint.type(), std::string(name)));
  if (it != names_.end() && it->second == &endpoint) names_.erase(it);
}

RefPtr<Endpoint> UnixNamespace::FindAbstract(int type, absl::string_view name) {
  MutexLock lock(mu_);
  auto it = names_.find(Name(type, std::string(name)));
  // An endpoint that is going has no references left, but leaves the table before it is gone.
  if (it == names_.end() || !it->second->TryIncRef()) return nullptr;
  return RefPtr<Endpoint>::Adopt(it->second);
}

std::string UnixNamespace::Autobind(Endpoint& endpoint) {
  constexpr uint32_t kNames = 1 << 20;
  MutexLock lock(mu_);
  for (uint32_t tries = 0; tries < kNames; ++tries) {
    std::string name = absl::StrFormat("%05x", next_autobind_++ % kNames);
    if (names_.try_emplace(Name(endpoint.type(), name), &endpoint).second) return name;
  }
  return "";
}

// unix_seq_show().
std::string UnixNamespace::Snapshot() {
  std::vector<RefPtr<Endpoint>> all;
  {
    MutexLock lock(mu_);
    for (Endpoint* e : endpoints_) {
      if (e->TryIncRef()) all.push_back(RefPtr<Endpoint>::Adopt(e));
    }
  }
  std::sort(all.begin(), all.end(),
            [](const auto& a, const auto& b) { return a->ino() < b->ino(); });
  std::string text = "Num       RefCount Protocol Flags    Type St Inode Path\n";
  for (const RefPtr<Endpoint>& e : all) {
    MutexLock lock(e->mu_);
    bool listening = e->state == UnixState::kListening;
    bool connected = e->state == UnixState::kConnected;
    int shown = e->ino() != 0 ? (connected ? 3 : 1) : (connected ? 2 : 4);
    absl::StrAppendFormat(&text, "%016x: %08X %08X %08X %04X %02X %5d", 0, connected ? 3 : 2, 0,
                          listening ? 0x10000 : 0, e->type(), shown, e->ino());
    if (e->address.size() > 2) {
      std::string path = e->address.substr(2);
      bool abstract = path[0] == '\0';
      if (!abstract) path = path.c_str();
      std::replace(path.begin(), path.end(), '\0', '@');
      absl::StrAppend(&text, " ", path);
    }
    text += '\n';
  }
  return text;
}

}  // namespace caisson::netstack
