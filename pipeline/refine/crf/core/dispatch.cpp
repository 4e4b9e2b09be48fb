#include <atomic>
#include <cstring>
#include <stdexcept>

#include "kernels.hpp"

namespace crf {

const Kernels& kernels_baseline();
#if defined(__x86_64__)
const Kernels& kernels_avx2();
const Kernels& kernels_avx512();
#endif

std::vector<const Kernels*> runnable_kernels() {
    std::vector<const Kernels*> supported;
#if defined(__x86_64__)
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl")) supported.push_back(&kernels_avx512());
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) supported.push_back(&kernels_avx2());
#endif
    supported.push_back(&kernels_baseline());
    return supported;
}

namespace {

std::atomic<const Kernels*>& chosen() {
    static std::atomic<const Kernels*> kernels{runnable_kernels().front()};
    return kernels;
}

}  // namespace

const Kernels& kernels() { return *chosen(); }

void use_kernels(const char* name) {
    for (const Kernels* kernels : runnable_kernels()) {
        if (std::strcmp(kernels->name, name) == 0) {
            chosen() = kernels;
            return;
        }
    }
    throw std::invalid_argument("this processor cannot run these instructions");
}

}  // namespace crf
