#include "kernel.hpp"

#include <algorithm>
#include <cmath>

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
            const uint32_t linked = chain[i] & 1;  // to the next entry; the last is not
            float& here = values[chain[i] >> 1];
            const float old = here, next = values[chain[i + linked] >> 1];
            here = old + 0.5f * (before + next * float(linked));
            before = old * float(linked);
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
    for (Rows& half : values) half.make_room(lattice.vertices, labels);
}

void Kernel::keep(const std::vector<int>& kept) {
    values[1].keep(kept);
    values[0].make_room(lattice.vertices, values[1].labels);
}

KernelView Kernel::view() {
    const float* weight = lattice.weight.data();
    return {lattice.vertex.data(), slice_weight.size() ? slice_weight.data() : weight, weight, values[0].view(),
            values[1].view(), values[0].far()};
}

void Kernel::clear_row(int y) { values[1].clear(lattice.used[y], lattice.used[y + 1]); }

void Kernel::blur() {
    const RowsView rows = values[1].view();
    for (const Chain& chain : lattice.chain) kernels().blur(chain.data(), chain.size(), values[1].labels, rows);
    std::swap(values[0], values[1]);
}

void Rows::make_room(size_t count_, int labels_) {
    count = count_;
    labels = labels_;
    values.resize(count * labels);
}

void Rows::clear(size_t first, size_t last) {
    std::fill(values.data() + first * labels, values.data() + last * labels, 0.0f);
}

void Rows::keep(const std::vector<int>& kept) {
    keep_columns(values.data(), count, labels, kept, 0.0f, values.data());
    make_room(count, padded(int(kept.size())));
}

RowsView Rows::view(uint32_t ring) { return {values.data(), ring}; }

bool Rows::far() const {
    constexpr size_t kCache = 1 << 18;  // floats
    return count * labels > kCache;
}

void keep_columns(const float* from, size_t rows, int labels, const std::vector<int>& kept, float filling, float* to) {
    const int count = int(kept.size()), some = padded(count);
    for (size_t row = 0; row < rows; row++) {
        for (int c = 0; c < count; c++) to[row * some + c] = from[row * labels + kept[c]];
        for (int c = count; c < some; c++) to[row * some + c] = filling;
    }
}

}  // namespace crf
