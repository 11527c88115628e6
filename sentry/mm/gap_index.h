// The free ranges of an address space, searchable by size.
#ifndef CAISSON_SENTRY_MM_GAP_INDEX_H_
#define CAISSON_SENTRY_MM_GAP_INDEX_H_

#include <cstdint>
#include <memory>

#include "absl/functional/function_ref.h"
#include "base/guest_addr.h"

namespace caisson::mm {

// Free ranges ("gaps") in a treap ordered by address, where each node knows the longest gap below
// it (Linux's maple tree and its rb tree before do the same for get_unmapped_area()). Changing
// coverage and finding a place cost O(log gaps). Not thread-safe.
class GapIndex {
 public:
  // At first all of `all` is free.
  explicit GapIndex(AddrRange all);
  ~GapIndex();
  void CopyFrom(const GapIndex& other);

  // Takes `range` out, whether all or part of it was free.
  void Occupy(AddrRange range);
  // Gives `range` back, which was occupied as a whole.
  void Release(AddrRange range);
  bool IsFree(AddrRange range) const;

  // Calls `accept` with the part inside `window` of each gap that has at least `length` bytes
  // there, from the highest (or lowest) on, until it returns true. Returns whether it did.
  bool VisitDown(uint64_t length, AddrRange window,
                 absl::FunctionRef<bool(AddrRange)> accept) const;
  bool VisitUp(uint64_t length, AddrRange window, absl::FunctionRef<bool(AddrRange)> accept) const;

 private:
  struct Node;
  using NodePtr = std::unique_ptr<Node>;
  static void Pull(Node& n);
  static NodePtr Join(NodePtr a, NodePtr b);
  // Nodes with start < key to *left, others to *right.
  static void Split(NodePtr n, uint64_t key, NodePtr* left, NodePtr* right);
  static NodePtr Copy(const Node* n);
  void Insert(uint64_t start, uint64_t end);
  void Erase(uint64_t start);
  // The gap with the greatest start < key, or null.
  const Node* Before(uint64_t key) const;
  template <bool kDown>
  static bool Visit(const Node* n, uint64_t length, AddrRange window,
                    absl::FunctionRef<bool(AddrRange)> accept);

  NodePtr root_;
  uint64_t seed_ = 0x9e3779b97f4a7c15;  // Of the priorities; shape only.
};

}  // namespace caisson::mm

#endif  // CAISSON_SENTRY_MM_GAP_INDEX_H_
