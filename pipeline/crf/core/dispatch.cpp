#include "kernels.hpp"

namespace crf {

const Kernels& kernels_baseline();

#if defined(__x86_64__)
const Kernels& kernels_avx2();
const Kernels& kernels_avx512();

const Kernels& kernels() {
    static const Kernels& best = [] () -> const Kernels& {
        if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl")) return kernels_avx512();
        if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return kernels_avx2();
        return kernels_baseline();
    }();
    return best;
}
#else
const Kernels& kernels() { return kernels_baseline(); }
#endif

}  // namespace crf
