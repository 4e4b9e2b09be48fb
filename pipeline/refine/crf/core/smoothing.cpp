#include "smoothing.hpp"

#include <algorithm>

namespace crf {
namespace {

constexpr uint32_t kNone = ~0u;  // in place of a neighbour

// Vertices that no row after y uses, for each y: (rows), ascending.
std::vector<uint32_t> complete_after_rows(const Lattice& lattice, int rows) {
    const size_t row = lattice.vertex.size() / rows;
    std::vector<uint32_t> complete(rows, uint32_t(lattice.vertices));
    for (int y = rows - 2; y >= 0; y--) {
        const uint32_t* next = lattice.vertex.data() + (y + 1) * row;
        complete[y] = std::min(complete[y + 1], *std::min_element(next, next + row));
    }
    return complete;
}

size_t power_of_two(size_t least) {
    size_t size = 1;
    while (size < least) size *= 2;
    return size;
}

}  // namespace

void Smoothing::build(const Picture& picture, float xy, float weight, bool symmetric, Table& table) {
    build_gaussian(picture, xy, table, kernel_.lattice);
    kernel_.normalize(weight, symmetric);
    const Lattice& lattice = kernel_.lattice;
    std::vector<uint32_t> ready = complete_after_rows(lattice, picture.height);
    std::vector<uint32_t> begun(lattice.used.begin() + 1, lattice.used.end());
    for (int axis = 0; axis < kAxes; axis++) {
        link(axis, ready);
        // the ring holds, while row y is under way, all from the oldest vertex that the axis still needs to the newest
        const Axis& at = axis_[axis];
        std::vector<uint32_t> oldest(lattice.vertices + 1, uint32_t(lattice.vertices));
        for (size_t v = lattice.vertices; v-- > 0;) {
            oldest[v] = std::min({oldest[v + 1], uint32_t(v), at.before[v], at.after[v]});
        }
        size_t most = 1;
        for (int y = 0; y < picture.height; y++) most = std::max<size_t>(most, begun[y] - oldest[y ? at.done[y - 1] : 0]);
        ring_[axis] = power_of_two(most);
        place_in_ring(axis_[axis], ring_[axis]);
        ready = begun = at.done;
    }
}

void Smoothing::place_in_ring(Axis& axis, size_t ring) {
    for (Buffer<uint32_t>* neighbours : {&axis.before, &axis.after}) {
        for (uint32_t& at : *neighbours) at = uint32_t(at == kNone ? ring : at & (ring - 1));
    }
}

void Smoothing::link(int axis, const std::vector<uint32_t>& ready) {
    Axis& at = axis_[axis];
    const size_t count = kernel_.lattice.vertices;
    at.before.resize(count);
    at.after.resize(count);
    std::fill(at.before.begin(), at.before.end(), kNone);
    std::fill(at.after.begin(), at.after.end(), kNone);
    const Chain& chain = kernel_.lattice.chain[axis];
    for (size_t i = 0; i < chain.size(); i++) {
        if (!(chain[i] & 1)) continue;
        at.after[chain[i] >> 1] = chain[i + 1] >> 1;
        at.before[chain[i + 1] >> 1] = chain[i] >> 1;
    }
    at.done.assign(ready.size(), 0);
    uint32_t v = 0;
    for (size_t y = 0; y < ready.size(); y++) {
        const auto waits = [&](uint32_t neighbour) { return neighbour != kNone && neighbour >= ready[y]; };
        while (v < ready[y] && !waits(at.before[v]) && !waits(at.after[v])) v++;
        at.done[y] = v;
    }
}

void Smoothing::make_room(int labels) {
    values_.make_room(kernel_.lattice.vertices, labels);
    make_room_under_way();
}

void Smoothing::keep(const std::vector<int>& kept) {
    values_.keep(kept);
    make_room_under_way();
}

void Smoothing::make_room_under_way() {
    for (int axis = 0; axis < kAxes; axis++) {
        under_way_[axis].make_room(ring_[axis] + 1, values_.labels);
        under_way_[axis].clear(ring_[axis], ring_[axis] + 1);
    }
}

RowsView Smoothing::ring(int axis) { return under_way_[axis].view(uint32_t(ring_[axis] - 1)); }

KernelView Smoothing::view() {
    KernelView view = kernel_.view();
    view.sliced = values_.view();
    view.splatted = ring(0);
    view.far = values_.far();
    return view;
}

void Smoothing::begin_row(int y) {
    const size_t mask = ring_[0] - 1;
    const size_t first = kernel_.lattice.used[y], last = kernel_.lattice.used[y + 1];
    for (size_t v = first, next; v < last; v = next) {
        next = std::min(last, (v | mask) + 1);  // where the ring begins anew
        under_way_[0].clear(v & mask, (v & mask) + (next - v));
    }
}

void Smoothing::end_row(int y) {
    for (int axis = 0; axis < kAxes; axis++) {
        const Axis& at = axis_[axis];
        const RowsView to = axis + 1 < kAxes ? ring(axis + 1) : values_.view();
        kernels().blur_step({at.before.data(), at.after.data(), ring(axis), to}, y ? at.done[y - 1] : 0, at.done[y],
                            values_.labels);
    }
}

}  // namespace crf
