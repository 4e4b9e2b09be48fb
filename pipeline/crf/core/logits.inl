// A pixel's log probabilities: between the points of a grid, stored, or of labels that share a column; part of kernels.inl.
#pragma once

#include "kernels.hpp"
#include "rows.inl"
#include "vectors.hpp"

namespace crf {
namespace {

// Pixels are worked on a block at a time, one step for the whole block after the other: a pixel's chain of operations is
// long, and short steps let the processor work on several pixels at once.
constexpr int kBlock = 16;
constexpr float kMostLogit = 60.0f;  // so that the sum of 256 exponentials is far from the end of a float

template <int W, int N>
void grid_row(const GridView& grid, int labels, int y, float* out) {
    const int n = Row<W, N>::vectors(labels) * grid.columns;
    const int row = (y + grid.top) / grid.stride;
    const float share = float((y + grid.top) % grid.stride) / float(grid.stride);
    const float* above = grid.values + size_t(row) * n * W;
    const float* below = share > 0 ? above + size_t(n) * W : above;
    for (int k = 0; k < n; k++) {
        const Floats<W> a = load<W>(above + k * W), b = load<W>(below + k * W);
        store<W>(out + k * W, a + (b - a) * share);
    }
}

// Logits of the run's pixel i.
template <int W, int N>
CRF_INLINE void interpolate(const RunView& run, int i, int n, Floats<W>* e) {
    const float share = run.grid->share[i];
    const float* left = run.grid_row + size_t(run.grid->column[i]) * n * W;
    const float* right = share > 0 ? left + n * W : left;
    for (int k = 0; k < n; k++) {
        const Floats<W> a = load<W>(left + k * W), b = load<W>(right + k * W);
        e[k] = a + (b - a) * share;
    }
}

// Log probabilities of the labels, or of columns as far as each is a label's own.
template <int W, int N>
CRF_INLINE void own_log_probabilities(const RunView& run, int i, int n, Floats<W>* e) {
    if (run.stored) {
        prefetch_row<W>(run.stored + size_t(i + kBlock) * n * W, n);
        for (int k = 0; k < n; k++) e[k] = load<W>(run.stored + (size_t(i) * n + k) * W);
        return;
    }
    interpolate<W, N>(run, i, n, e);
    const float log_sum = run.log_sum ? run.log_sum[i] : 0.0f;
    for (int k = 0; k < n; k++) e[k] = larger(e[k] - log_sum, load<W>(run.floor + k * W));
}

template <int W, int N>
CRF_INLINE void log_probabilities(const RunView& run, int i, int n, Floats<W>* e) {
    own_log_probabilities<W, N>(run, i, n, e);
    if (!run.joined) return;
    const float* first = run.joined + size_t(i) * (n * W - run.shared) - run.shared;  // where column 0 would be
    for (int k = 0; k < n; k++) e[k] = lanes<W>() >= run.shared - k * W ? load<W>(first + k * W) : e[k];
}

template <int W, int N>
void join_logs(const RunView& run, const SharedView& shared, float* out) {
    const int n = Row<W, N>::vectors(run.labels);
    for (int i = 0; i < run.count; i++, out += shared.row) {
        Floats<W> e[Row<W, N>::kMost];
        float probability[Row<W, N>::kMost * W], sums[kMaxLabels + 4];
        own_log_probabilities<W, N>(run, i, n, e);
        for (int k = 0; k < n; k++) store<W>(probability + k * W, exponential<W>(e[k]));
        for (int c = 0; c < shared.columns; c += 4) store<4>(sums + c, Floats<4>{});
        for (int m = 0; m < shared.count; m++) sums[shared.column[m]] += probability[shared.label[m]];
        for (int c = 0; c < shared.columns; c += 4) {
            store<4>(sums + c, log_positive<4>(larger(load<4>(sums + c), fill<4>(1e-30f))));
        }
        for (int c = 0; c < shared.row; c++) out[c] = c < shared.columns ? sums[c] : kNever;
    }
}

template <int W>
CRF_INLINE float largest_of(const Floats<W>* e, int n) {
    Floats<W> top = e[0];
    for (int k = 1; k < n; k++) top = larger(top, e[k]);
    return largest(top);
}

// Makes e exp(e - most), and returns the sum of that; `most` is the largest of e, whose exponential is exactly 1.
template <int W>
CRF_INLINE float exponentials(Floats<W>* e, int n, float most) {
    Floats<W> total{};
    for (int k = 0; k < n; k++) {
        e[k] = exponential<W>(e[k] - most);
        total += e[k];
    }
    return sum(total);
}

template <int W, int N>
void log_sums(const RunView& run, float* log_sum, float* largest) {
    const int n = Row<W, N>::vectors(run.labels);
    for (int i = 0; i < run.count; i++) {
        Floats<W> e[Row<W, N>::kMost];
        interpolate<W, N>(run, i, n, e);
        const float most = largest_of<W>(e, n), all = exponentials<W>(e, n, most);
        log_sum[i] = most + log_positive<4>(fill<4>(all))[0];
        for (int k = 0; k < n; k++) {
            store<W>(largest + k * W, larger(load<W>(largest + k * W), e[k] * (1.0f / all)));
        }
    }
}

float logs(const float* in, size_t count, float floor, float* out, float most) {
    constexpr int W = CRF_WIDTH;
    Floats<W> top = fill<W>(most);
    size_t i = 0;
    for (; i + W <= count; i += W) {
        const Floats<W> p = load<W>(in + i);
        top = larger(top, p);
        store<W>(out + i, log_positive<W>(larger(p, fill<W>(floor))));
    }
    most = largest(top);
    for (; i < count; i++) {
        most = in[i] > most ? in[i] : most;
        out[i] = log_positive<4>(fill<4>(in[i] > floor ? in[i] : floor))[0];
    }
    return most;
}

}  // namespace
}  // namespace crf
