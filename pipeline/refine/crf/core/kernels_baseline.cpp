#define CRF_WIDTH 4
#define CRF_NAME "baseline"
#include "kernels.inl"

namespace crf {
const Kernels& kernels_baseline() { return table; }
}  // namespace crf
