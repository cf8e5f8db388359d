// SPDX-License-Identifier: MIT
#pragma once

// Values: the results of a block's steps for some rows, while it runs.

#include <gptq/core/matrix_view.hpp>

#include <utility>  // std::as_const, std::move
#include <vector>

namespace gptq::model {

/// Each value is owned, or lent by somebody who keeps it for longer, or not there.
template <class Operations>
class Values {
 public:
  using Tensor = typename Operations::Tensor;
  using View = typename Operations::View;
  using ConstView = typename Operations::ConstView;

  /// \param count  steps of the block
  explicit Values(std::size_t count) : held_(count) {}

  bool has(int value) const { return at(value).there; }
  View view(int value) { return at(value).view; }
  ConstView view(int value) const { return ConstView(at(value).view); }

  void set(int value, Tensor tensor) {
    Held& held = at(value);
    held.own = std::move(tensor);
    held.view = held.own.view();
    held.there = held.writable = true;
    held.lender = -1;
  }

  /// \param writable  whether the memory may be reused for another value once this one is done
  void lend(int value, View view, bool writable) {
    Held& held = at(value);
    held.view = view;
    held.there = true;
    held.writable = writable;
    held.lender = value;
  }

  /// Reuses the memory of a value for another one.
  void move(int from, int to) {
    at(to) = std::move(at(from));
    drop(from);
  }
  void drop(int value) { at(value) = Held{}; }
  /// Hands out the tensor of a value that is owned.
  Tensor take(int value) { return std::move(at(value).own); }

  bool is_writable(int value) const { return at(value).writable; }
  /// The value whose lent memory this one is in; -1: it has its own.
  int lender(int value) const { return at(value).lender; }

 private:
  struct Held {
    Tensor own{};
    View view{};
    bool there = false, writable = false;
    int lender = -1;
  };
  Held& at(int value) { return held_[static_cast<std::size_t>(value)]; }
  const Held& at(int value) const { return held_[static_cast<std::size_t>(value)]; }

  std::vector<Held> held_;
};

}  // namespace gptq::model
