// Rows of labels, and their blurs over the vertices of a lattice; part of kernels.inl.
#pragma once

#include "kernels.hpp"
#include "vectors.hpp"

namespace crf {
namespace {

constexpr size_t kAhead = 24;  // chain entries between a prefetch and its use

// A row of labels is N vectors of W floats; N = 0 leaves the number to run time.
template <int W, int N>
struct Row {
    static constexpr int kMost = N ? N : kMaxLabels / W;
    static int vectors(int labels) { return N ? N : labels / W; }
};

// Row number `row` of those that are there, with n vectors.
template <int W>
CRF_INLINE float* row_at(const RowsView& rows, size_t row, int n) {
    float* values = rows.values + row * (n * W);
    asm("" : "+r"(values));  // or GCC works out an address for each of the row's vectors
    return values;
}

template <int W>
CRF_INLINE void prefetch_row(const float* row, int n) {
    for (int line = 0; line < n * W; line += 16) __builtin_prefetch(row + line);
}

template <int W, int N>
void blur_step(const BlurStep& step, uint32_t first, uint32_t last, int labels) {
    const int n = Row<W, N>::vectors(labels);
    const RowsView from = step.from, to = step.to;
    for (uint32_t v = first; v < last; v++) {
        const float *before = row_at<W>(from, step.before[v], n), *after = row_at<W>(from, step.after[v], n);
        const float* here = row_at<W>(from, v & from.ring, n);
        float* there = row_at<W>(to, v & to.ring, n);
        for (int k = 0; k < n; k++) {
            const Floats<W> beside = load<W>(before + k * W) + load<W>(after + k * W);
            store<W>(there + k * W, load<W>(here + k * W) + beside * 0.5f);
        }
    }
}

template <int W, int N>
void blur(const uint32_t* chain, size_t length, int labels, RowsView rows) {
    if (length == 0) return;
    static const float share[2] = {0.0f, 0.5f};  // read, as a branch would often be guessed wrong
    const int n = Row<W, N>::vectors(labels);
    Floats<W> before[Row<W, N>::kMost], here[Row<W, N>::kMost];
    float* row = row_at<W>(rows, chain[0] >> 1, n);
    for (int k = 0; k < n; k++) {
        before[k] = Floats<W>{};
        here[k] = load<W>(row + k * W);
    }
    float from = 0.0f;
    for (size_t i = 0; i + 1 < length; i++) {
        prefetch_row<W>(row_at<W>(rows, chain[i + kAhead] >> 1, n), n);
        const float to = share[chain[i] & 1];
        float* next_row = row_at<W>(rows, chain[i + 1] >> 1, n);
        for (int k = 0; k < n; k++) {
            const Floats<W> next = load<W>(next_row + k * W);
            store<W>(row + k * W, here[k] + before[k] * from + next * to);
            before[k] = here[k];
            here[k] = next;
        }
        row = next_row;
        from = to;
    }
    for (int k = 0; k < n; k++) store<W>(row + k * W, here[k] + before[k] * from);
}

}  // namespace
}  // namespace crf
