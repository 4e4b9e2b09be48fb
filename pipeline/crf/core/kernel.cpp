#include "kernel.hpp"

#include <algorithm>
#include <cmath>
#include <stdexcept>

namespace crf {
namespace {

// Splat and blur of ones, (vertices).
std::vector<float> filtered_ones(const Lattice& lattice) {
    std::vector<float> values(lattice.vertices, 0.0f);
    const uint32_t* vertex = lattice.vertex.data();
    const float* weight = lattice.weight.data();
    for (size_t i = 0; i < lattice.vertex.size(); i++) values[vertex[i]] += weight[i];
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
    return values;
}

template <int Corners>
void weigh(const std::vector<float>& ones, float alpha, float factor, const Buffer<uint32_t>& vertex,
           Buffer<float>& splat, Buffer<float>& slice) {
    const bool symmetric = slice.size() == 0;
    for (size_t at = 0; at < vertex.size(); at += Corners) {
        float sum = 0.0f;
        for (int c = 0; c < Corners; c++) sum += ones[vertex[at + c]] * splat[at + c];
        const float share = factor / (sum * alpha + 1e-20f);
        if (symmetric) {
            const float both = std::sqrt(share);
            for (int c = 0; c < Corners; c++) splat[at + c] *= both;
        } else {
            for (int c = 0; c < Corners; c++) slice[at + c] = splat[at + c] * share;
        }
    }
}

}  // namespace

void Kernel::normalize(float weight, bool symmetric) {
    const std::vector<float> ones = filtered_ones(lattice);
    const float alpha = lattice.alpha();
    slice_weight.resize(symmetric ? 0 : lattice.weight.size());
    if (lattice.corners == 6) weigh<6>(ones, alpha, alpha * weight, lattice.vertex, lattice.weight, slice_weight);
    else weigh<3>(ones, alpha, alpha * weight, lattice.vertex, lattice.weight, slice_weight);
}

void Kernel::make_room(int labels) {
    for (Buffer<float>& half : values) half.resize(lattice.vertices * labels);
    place_rows(lattice.vertex, ~0u, labels, row);
}

void Kernel::keep(const std::vector<int>& kept, int labels) {
    keep_columns(values[0].data(), lattice.vertices, labels, kept, 0.0f, values[0].data());
    make_room(padded(int(kept.size())));
}

void keep_columns(const float* from, size_t rows, int labels, const std::vector<int>& kept, float filling, float* to) {
    const int count = int(kept.size()), some = padded(count);
    for (size_t row = 0; row < rows; row++) {
        for (int c = 0; c < count; c++) to[row * some + c] = from[row * labels + kept[c]];
        for (int c = count; c < some; c++) to[row * some + c] = filling;
    }
}

void place_rows(const Buffer<uint32_t>& vertex, uint32_t ring, int labels, Buffer<uint32_t>& row) {
    row.resize(vertex.size());
    const uint32_t pairs = uint32_t(labels / 2);
    uint32_t last = 0;
    for (size_t i = 0; i < vertex.size(); i++) {
        last = std::max(last, vertex[i] & ring);
        row[i] = (vertex[i] & ring) * pairs;
    }
    if (uint64_t(last) * pairs > ~0u) throw std::overflow_error("too many vertices for so many labels");
}

bool is_far(const Buffer<float>& values) {
    constexpr size_t kCache = 1 << 18;  // floats
    return values.size() > kCache;
}

KernelView Kernel::view() {
    const float* weight = lattice.weight.data();
    return {row.data(), row.data(), slice_weight.size() ? slice_weight.data() : weight, weight, values[0].data(),
            values[1].data(), is_far(values[0])};
}

void Kernel::clear_row(int y, int labels) {
    std::fill(values[1].data() + size_t(lattice.used[y]) * labels, values[1].data() + size_t(lattice.used[y + 1]) * labels,
              0.0f);
}

void Kernel::blur(int labels) {
    for (const Chain& chain : lattice.chain) kernels().blur(chain.data(), chain.size(), labels, values[1].data());
    std::swap(values[0], values[1]);
}

}  // namespace crf
