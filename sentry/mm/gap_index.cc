#include "sentry/mm/gap_index.h"

#include <algorithm>
#include <utility>

namespace caisson::mm {

struct GapIndex::Node {
  uint64_t start;
  uint64_t end;
  uint64_t longest;  // Of the subtree.
  uint64_t priority;
  NodePtr left;
  NodePtr right;
};

GapIndex::GapIndex(AddrRange all) {
  if (!all.empty()) Insert(all.start.value, all.end.value);
}

GapIndex::~GapIndex() = default;

void GapIndex::CopyFrom(const GapIndex& other) { root_ = Copy(other.root_.get()); }

GapIndex::NodePtr GapIndex::Copy(const Node* n) {
  if (n == nullptr) return nullptr;
  auto copy = std::make_unique<Node>();
  copy->start = n->start;
  copy->end = n->end;
  copy->longest = n->longest;
  copy->priority = n->priority;
  copy->left = Copy(n->left.get());
  copy->right = Copy(n->right.get());
  return copy;
}

void GapIndex::Pull(Node& n) {
  n.longest = n.end - n.start;
  if (n.left != nullptr) n.longest = std::max(n.longest, n.left->longest);
  if (n.right != nullptr) n.longest = std::max(n.longest, n.right->longest);
}

GapIndex::NodePtr GapIndex::Join(NodePtr a, NodePtr b) {
  if (a == nullptr) return b;
  if (b == nullptr) return a;
  if (a->priority > b->priority) {
    a->right = Join(std::move(a->right), std::move(b));
    Pull(*a);
    return a;
  }
  b->left = Join(std::move(a), std::move(b->left));
  Pull(*b);
  return b;
}

void GapIndex::Split(NodePtr n, uint64_t key, NodePtr* left, NodePtr* right) {
  if (n == nullptr) {
    left->reset();
    right->reset();
    return;
  }
  if (n->start < key) {
    NodePtr rest;
    Split(std::move(n->right), key, &rest, right);
    n->right = std::move(rest);
    Pull(*n);
    *left = std::move(n);
  } else {
    NodePtr rest;
    Split(std::move(n->left), key, left, &rest);
    n->left = std::move(rest);
    Pull(*n);
    *right = std::move(n);
  }
}

void GapIndex::Insert(uint64_t start, uint64_t end) {
  seed_ ^= seed_ << 13;
  seed_ ^= seed_ >> 7;
  seed_ ^= seed_ << 17;
  auto node = std::make_unique<Node>();
  node->start = start;
  node->end = end;
  node->priority = seed_;
  Pull(*node);
  NodePtr left, right;
  Split(std::move(root_), start, &left, &right);
  root_ = Join(Join(std::move(left), std::move(node)), std::move(right));
}

void GapIndex::Erase(uint64_t start) {
  NodePtr left, middle, right;
  Split(std::move(root_), start, &left, &right);
  Split(std::move(right), start + 1, &middle, &right);
  root_ = Join(std::move(left), std::move(right));
}

const GapIndex::Node* GapIndex::Before(uint64_t key) const {
  const Node* best = nullptr;
  for (const Node* n = root_.get(); n != nullptr;) {
    if (n->start < key) {
      best = n;
      n = n->right.get();
    } else {
      n = n->left.get();
    }
  }
  return best;
}

void GapIndex::Occupy(AddrRange range) {
  for (;;) {
    const Node* gap = Before(range.end.value);
    if (gap == nullptr || gap->end <= range.start.value) return;
    uint64_t start = gap->start, end = gap->end;
    Erase(start);
    if (start < range.start.value) Insert(start, range.start.value);
    if (end > range.end.value) Insert(range.end.value, end);
    if (start <= range.start.value) return;
  }
}

void GapIndex::Release(AddrRange range) {
  uint64_t start = range.start.value, end = range.end.value;
  if (start == end) return;
  if (const Node* after = Before(end + 1); after != nullptr && after->start == end) {
    uint64_t new_end = after->end;
    Erase(end);
    end = new_end;
  }
  if (const Node* before = Before(start); before != nullptr && before->end == start) {
    start = before->start;
    Erase(start);
  }
  Insert(start, end);
}

bool GapIndex::IsFree(AddrRange range) const {
  const Node* gap = Before(range.start.value + 1);
  return gap != nullptr && gap->end >= range.end.value;
}

template <bool kDown>
bool GapIndex::Visit(const Node* n, uint64_t length, AddrRange window,
                     absl::FunctionRef<bool(AddrRange)> accept) {
  if (n == nullptr || n->longest < length) return false;
  bool left_matters = n->start > window.start.value;
  bool right_matters = n->end < window.end.value;
  const Node* first =
      kDown ? (right_matters ? n->right.get() : nullptr) : (left_matters ? n->left.get() : nullptr);
  const Node* last =
      kDown ? (left_matters ? n->left.get() : nullptr) : (right_matters ? n->right.get() : nullptr);
  if (Visit<kDown>(first, length, window, accept)) return true;
  uint64_t start = std::max(n->start, window.start.value);
  uint64_t end = std::min(n->end, window.end.value);
  if (start < end && end - start >= length && accept(AddrRange{GuestAddr(start), GuestAddr(end)}))
    return true;
  return Visit<kDown>(last, length, window, accept);
}

bool GapIndex::VisitDown(uint64_t length, AddrRange window,
                         absl::FunctionRef<bool(AddrRange)> accept) const {
  return Visit<true>(root_.get(), length, window, accept);
}

bool GapIndex::VisitUp(uint64_t length, AddrRange window,
                       absl::FunctionRef<bool(AddrRange)> accept) const {
  return Visit<false>(root_.get(), length, window, accept);
}

}  // namespace caisson::mm
