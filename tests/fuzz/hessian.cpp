// SPDX-License-Identifier: MIT

// Hessian files. For inputs with an even number of bytes, the checksum is corrected so that the
// code after it is reached.

#include "harness.hpp"

#include <gptq/backend/cpu.hpp>
#include <gptq/calibration/hessian_file.hpp>

#include <cstring>

namespace {

void correct_checksum(std::string& file) {
  gptq::detail::HessianHeader header;
  if (file.size() < sizeof header) return;
  std::memcpy(&header, file.data(), sizeof header);
  const std::size_t n = header.in_features, scalar = header.scalar_bytes;
  if (n >= 200 || (scalar != 4 && scalar != 8) ||
      file.size() != sizeof header + n * (n + 1) / 2 * scalar)
    return;
  gptq::detail::Checksum checksum;
  checksum.add(&header.tokens, 3 * sizeof(double));
  const char* row = file.data() + sizeof header;
  for (std::size_t i = 0; i < n; row += (n - i++) * scalar) checksum.add(row, (n - i) * scalar);
  header.checksum = checksum.value();
  std::memcpy(file.data(), &header, sizeof header);
}

}  // namespace

void fuzz::hessian(Input input) {
  std::string file(text(input));
  if (file.size() % 2 == 0) correct_checksum(file);
  const auto path = folder().write("x.hessian", file);
  may_refuse([&] {
    auto hessian = gptq::load_hessian<gptq::backend::Cpu>(path);
    require(hessian.in_features() > 0 && hessian.tokens() >= 0, "a Hessian has inputs and tokens");
    hessian.merge(gptq::load_hessian<gptq::backend::Cpu>(path));
  });
}
