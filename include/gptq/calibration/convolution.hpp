// SPDX-License-Identifier: MIT
#pragma once

// A convolution is a linear layer on the patch under its kernel: an output position is a token, a
// channel at a kernel position is an input. Each group of channels has a Hessian of its own.

#include <gptq/calibration/hessian.hpp>
#include <gptq/core/progress.hpp>

#include <span>
#include <type_traits>
#include <vector>

namespace gptq {

/// How a kernel moves along one axis.
struct ConvolutionAxis {
  /// In inputs.
  Index kernel = 1, stride = 1;
  Index padding = 0;   ///< zeros on either side
  Index dilation = 1;  ///< distance between the inputs under the kernel

  /// Output positions along `length` inputs.
  constexpr Index positions(Index length) const {
    const Index free = length + 2 * padding - dilation * (kernel - 1) - 1;
    return free < 0 ? 0 : free / stride + 1;
  }
  /// Same in all fields.
  bool operator==(const ConvolutionAxis&) const = default;
};

/// The shape of a Conv2d, or of a Conv1d if `height` keeps its defaults.
struct Convolution {
  Index channels = 1;  ///< of the input
  Index groups = 1;    ///< of channels, convolved separately
  /// The two axes.
  ConvolutionAxis height{}, width{};

  /// Columns of the weight [out, channels / groups, height.kernel, width.kernel], flattened.
  constexpr Index in_features() const { return channels / groups * height.kernel * width.kernel; }
  /// Same in all fields.
  bool operator==(const Convolution&) const = default;

  /// Checks all fields.
  /// \throws InvalidArgument  names the field
  void validate() const {
    using detail::require;
    require(channels > 0 && groups > 0 && channels % groups == 0, "groups = ", groups,
            " of a convolution must divide its channels = ", channels);
    for (const ConvolutionAxis& axis : {height, width})
      require(axis.kernel > 0 && axis.stride > 0 && axis.padding >= 0 && axis.dilation > 0,
              "a convolution with kernel = ", axis.kernel, ", stride = ", axis.stride,
              ", padding = ", axis.padding, ", dilation = ", axis.dilation,
              ": padding must be at least 0, the others at least 1");
  }
};

/// The patch under the kernel at each output position, for one group of channels (im2col): writes
/// [positions, in_features] to `out`, positions from left to right and top to bottom, columns in
/// the order of the flattened weight.
/// \param image  [channels, height · width]
template <class T, class B>
void unfold(const B& backend, const Convolution& shape, Index group, MatrixView<const T> image,
            Index height, MatrixView<T> out) {
  const Index width = image.cols() / height, channels = shape.channels / shape.groups;
  const Index columns = shape.width.positions(width);
  backend.for_each(shape.height.positions(height), [&](Index top) {
    for (Index left = 0; left < columns; ++left) {
      Index to = 0;
      for (Index c = 0; c < channels; ++c)
        for (Index i = 0; i < shape.height.kernel; ++i)
          for (Index j = 0; j < shape.width.kernel; ++j, ++to) {
            const Index y =
                top * shape.height.stride - shape.height.padding + i * shape.height.dilation;
            const Index x =
                left * shape.width.stride - shape.width.padding + j * shape.width.dilation;
            const bool inside = y >= 0 && y < height && x >= 0 && x < width;
            out(top * columns + left, to) =
                inside ? image(group * channels + c, y * width + x) : T{};
          }
    }
  });
}

/// The Hessians of a convolution, one per group of channels.
template <backend::Backend B>
class ConvolutionHessian {
 public:
  /// \throws InvalidArgument  the shape is invalid
  explicit ConvolutionHessian(Convolution shape, B backend = default_backend<B>()) : shape_(shape) {
    shape.validate();
    for (Index g = 0; g < shape.groups; ++g) hessians_.emplace_back(shape.in_features(), backend);
  }

  /// Of the convolution.
  const Convolution& shape() const { return shape_; }
  /// Number of groups, each with a Hessian.
  Index groups() const { return shape_.groups; }
  /// The Hessian of a group.
  const Hessian<B>& group(Index g) const { return hessians_[std::size_t(g)]; }

  /// Adds one image of float, double, bfloat16 or float16, one group at a time, which takes memory
  /// for [positions, in_features].
  /// \param image   on the host, [channels, height · width], any strides: transposed() if channels
  ///                come last
  /// \param height  1 for Conv1d
  /// \throws InvalidArgument  the shape does not fit
  /// \throws NumericalError   an element is not finite, or too large; nothing was added
  template <class T>
  void add(MatrixView<T> image, Index height = 1) {
    using Value = std::remove_const_t<T>;
    detail::require(image.rows() == shape_.channels, "the image has ", image.rows(),
                    " channels, the convolution ", shape_.channels);
    detail::require(height > 0 && image.cols() % height == 0, "the image has ", image.cols(),
                    " pixels, which are not a multiple of ", height, " rows");
    const Index tall = shape_.height.positions(height),
                wide = shape_.width.positions(image.cols() / height);
    detail::require(tall > 0 && wide > 0, "the image of ", height, " x ", image.cols() / height,
                    " pixels is smaller than the kernel");
    const MatrixView<const Value> pixels = image;
    const double largest = require_finite(hessians_.front().backend(), pixels, "image");
    const Index positions = tall * wide;
    for (const Hessian<B>& hessian : hessians_)  // before the first one changes
      hessian.require_room(largest, static_cast<double>(positions));
    std::vector<Value> memory(
        static_cast<std::size_t>(detail::checked_size(positions, shape_.in_features())));
    const MatrixView<Value> unfolded(memory.data(), positions, shape_.in_features());
    for (Index g = 0; g < groups(); ++g) {
      unfold(hessians_.front().backend(), shape_, g, pixels, height, unfolded);
      hessians_[std::size_t(g)].add(unfolded);
    }
  }

  /// The Hessians of all groups in order; valid as long as this.
  std::vector<const Hessian<B>*> all_groups() const {
    std::vector<const Hessian<B>*> all;
    for (const Hessian<B>& hessian : hessians_) all.push_back(&hessian);
    return all;
  }

  /// The rows of a weight [out, channels / groups · kernel] that belong to each group.
  /// \throws InvalidArgument  the groups do not divide the rows
  template <class W>
  std::vector<MatrixView<W>> split(MatrixView<W> weight) const {
    const Index rows = weight.rows() / groups();
    detail::require(rows * groups() == weight.rows(), "the ", groups(),
                    " groups of the convolution do not divide the ", weight.rows(),
                    " rows of its weight");
    std::vector<MatrixView<W>> weights;
    for (Index g = 0; g < groups(); ++g) weights.push_back(weight.middle_rows(g * rows, rows));
    return weights;
  }

  /// Adds what the Hessians of another convolution of the same shape have seen.
  /// \throws InvalidArgument  the shape differs
  void merge(const ConvolutionHessian& other) {
    detail::require(other.shape_ == shape_, "cannot merge the Hessians of a different convolution");
    for (Index g = 0; g < groups(); ++g) hessians_[std::size_t(g)].merge(other.group(g));
  }

 private:
  Convolution shape_;
  std::vector<Hessian<B>> hessians_;
};

/// Quantizes a convolution group by group.
/// \param weight  [out, channels / groups · height · width]: flattened from its second dimension on
/// \return  for group g, rows [g · out / groups, (g + 1) · out / groups)
/// \throws as Quantizer::quantize for many weights; InvalidArgument  the groups do not divide the
///         rows
template <class Quantizer, class W, backend::Backend B>
auto quantize(const Quantizer& quantizer, MatrixView<W> weight,
              const ConvolutionHessian<B>& hessian, const Progress& progress = {}) {
  const auto weights = hessian.split(weight);
  const auto hessians = hessian.all_groups();
  return quantizer.quantize(std::span<const MatrixView<W>>(weights),
                            std::span<const Hessian<B>* const>(hessians), progress);
}

}  // namespace gptq
