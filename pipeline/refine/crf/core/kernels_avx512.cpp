#define CRF_WIDTH 16
#define CRF_NAME "avx512"
#include "kernels.inl"

namespace crf {
const Kernels& kernels_avx512() { return table; }
}  // namespace crf
