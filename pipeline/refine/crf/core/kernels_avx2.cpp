#define CRF_WIDTH 8
#define CRF_NAME "avx2"
#include "kernels.inl"

namespace crf {
const Kernels& kernels_avx2() { return table; }
}  // namespace crf
