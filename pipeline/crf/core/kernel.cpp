#include "kernel.hpp"

#include <algorithm>
#include <cmath>

namespace crf {
namespace {

// Splat, blur and slice of ones, (pixels).
std::vector<float> row_sums(const Lattice& lattice) {
    std::vector<float> values(lattice.vertices, 0.0f);
    for (size_t i = 0; i < lattice.vertex.size(); i++) values[lattice.vertex[i]] += lattice.weight[i];
    for (const Chain& chain : lattice.chain) {
        float before = 0.0f;
        for (size_t i = 0; i < chain.size(); i++) {
            float& here = values[chain[i] >> 1];
            const float old = here;
            const bool linked = chain[i] & 1;
            here = old + 0.5f * (before + (linked ? values[chain[i + 1] >> 1] : 0.0f));
            before = linked ? old : 0.0f;
        }
    }
    const int corners = lattice.corners;
    std::vector<float> sums(lattice.vertex.size() / corners);
    for (size_t i = 0; i < sums.size(); i++) {
        float total = 0.0f;
        for (int c = 0; c < corners; c++) total += values[lattice.vertex[i * corners + c]] * lattice.weight[i * corners + c];
        sums[i] = total * lattice.alpha();
    }
    return sums;
}

}  // namespace

void Kernel::normalize(float weight, bool symmetric) {
    const std::vector<float> sums = row_sums(lattice);
    const float factor = lattice.alpha() * weight;
    const int corners = lattice.corners;
    slice_weight.resize(symmetric ? 0 : lattice.weight.size());
    for (size_t i = 0; i < sums.size(); i++) {
        const float share = factor / (sums[i] + 1e-20f), both = std::sqrt(share);
        for (size_t at = i * corners; at < (i + 1) * corners; at++) {
            if (symmetric) lattice.weight[at] *= both;
            else slice_weight[at] = lattice.weight[at] * share;
        }
    }
}

void Kernel::make_room(int labels) {
    for (Buffer<float>& half : values) half.resize(lattice.vertices * labels);
}

KernelView Kernel::view() {
    constexpr size_t kCache = 1 << 18;  // floats
    const float* weight = lattice.weight.data();
    return {lattice.vertex.data(), slice_weight.size() ? slice_weight.data() : weight, weight, values[0].data(),
            values[1].data(), ~0u, values[0].size() > kCache};
}

void Kernel::clear_row(int y, int labels) {
    std::fill(values[1].data() + size_t(lattice.used[y]) * labels, values[1].data() + size_t(lattice.used[y + 1]) * labels,
              0.0f);
}

void Kernel::clear(int labels) { std::fill(values[1].data(), values[1].data() + lattice.vertices * labels, 0.0f); }

void Kernel::blur(int labels) {
    for (const Chain& chain : lattice.chain) kernels().blur(chain.data(), chain.size(), labels, values[1].data());
    std::swap(values[0], values[1]);
}

void Kernel::restrict_to(const Buffer<uint32_t>& pixels, Kernel& part) const {
    // A vertex takes part where a value can reach it along the axes before some point of the blur, and get from it to
    // one of the pixels along the axes after that point: reached[v] <= awaited[v].
    const int corners = lattice.corners;
    constexpr int8_t kUnreached = 100, kUnawaited = -1;
    std::vector<int8_t> reached(lattice.vertices, kUnreached), awaited(lattice.vertices, kUnawaited);
    for (uint32_t pixel : pixels) {
        for (int c = 0; c < corners; c++) {
            const uint32_t v = lattice.vertex[size_t(pixel) * corners + c];
            reached[v] = 0;
            awaited[v] = int8_t(corners);
        }
    }
    for (int8_t axis = 0; axis < corners; axis++) {
        const Chain& chain = lattice.chain[axis];
        for (size_t i = 0; i + 1 < chain.size(); i++) {
            if (!(chain[i] & 1)) continue;
            int8_t &a = reached[chain[i] >> 1], &b = reached[chain[i + 1] >> 1];
            if (a <= axis) b = std::min<int8_t>(b, axis + 1);
            else if (b <= axis) a = std::min<int8_t>(a, axis + 1);
        }
    }
    for (int8_t axis = int8_t(corners - 1); axis >= 0; axis--) {
        const Chain& chain = lattice.chain[axis];
        for (size_t i = 0; i + 1 < chain.size(); i++) {
            if (!(chain[i] & 1)) continue;
            int8_t &a = awaited[chain[i] >> 1], &b = awaited[chain[i + 1] >> 1];
            if (a > axis) b = std::max(b, axis);
            else if (b > axis) a = std::max(a, axis);
        }
    }
    std::vector<uint32_t> number(lattice.vertices);
    uint32_t count = 0;
    for (size_t v = 0; v < lattice.vertices; v++) {
        if (reached[v] <= awaited[v]) number[v] = count++;
    }
    part.lattice.corners = corners;
    part.lattice.vertices = count;
    part.lattice.chain.resize(corners);
    for (int8_t axis = 0; axis < corners; axis++) {
        const Chain& chain = lattice.chain[axis];
        Chain& kept = part.lattice.chain[axis];
        kept.resize(chain.size());
        size_t length = 0;
        bool before = false;
        for (size_t i = 0; i < chain.size(); i++) {
            const uint32_t v = chain[i] >> 1;
            bool after = false;
            if (chain[i] & 1) {
                const uint32_t w = chain[i + 1] >> 1;
                after = (reached[v] <= axis && awaited[w] > axis) || (reached[w] <= axis && awaited[v] > axis);
            }
            if (before || after) kept[length++] = number[v] * 2 + after;
            before = after;
        }
        kept.resize(length);
    }
    part.lattice.vertex.resize(pixels.size() * corners);
    part.lattice.weight.resize(pixels.size() * corners);
    part.slice_weight.resize(slice_weight.size() ? pixels.size() * corners : 0);
    for (size_t i = 0; i < pixels.size(); i++) {
        for (int c = 0; c < corners; c++) {
            const size_t to = i * corners + c, from = size_t(pixels[i]) * corners + c;
            part.lattice.vertex[to] = number[lattice.vertex[from]];
            part.lattice.weight[to] = lattice.weight[from];
            if (slice_weight.size()) part.slice_weight[to] = slice_weight[from];
        }
    }
}

}  // namespace crf
