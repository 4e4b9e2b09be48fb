// The permutohedral lattice (Adams, Baek and Davis 2010) of one picture: which vertices its pixels lie between, and
// which vertices neighbour each other along each of its axes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "buffer.hpp"

namespace crf {

struct Picture {
    int height, width;
    const uint8_t* data;                                    // (height, width, 3)
    ptrdiff_t row_stride, column_stride, channel_stride;  // bytes
};

// Vertices strung along one axis: vertex * 2 + (1 where the next entry is its neighbour).
using Chain = Buffer<uint32_t>;

struct Lattice {
    int corners = 0;           // vertices around a point: dimensions + 1
    size_t vertices = 0;
    Buffer<uint32_t> vertex;   // (pixels, corners), numbered in order of first use
    Buffer<float> weight;      // (pixels, corners), barycentric coordinates
    Buffer<uint32_t> used;     // (height + 1) vertices in use before each row of pixels
    std::vector<Chain> chain;  // (corners); a vertex alone on an axis is left out, as blurring leaves it as it is

    // Slice factor that makes up for what blurring adds.
    float alpha() const;
};

// Numbers the vertices of a picture, and remembers them by their coordinates. Kept from picture to picture.
class Table {
  public:
    void clear(size_t expected);
    size_t size() const { return size_; }
    uint64_t name(size_t vertex) const { return names_[vertex]; }
    // A look-up reads a slot, and then the name of the vertex that is there: each can be called for ahead of time.
    void prefetch_slot(uint64_t name) const { __builtin_prefetch(&slots_[slot(name)]); }
    void prefetch_name(uint64_t name) const { __builtin_prefetch(names_.data() + slots_[slot(name)]); }
    uint32_t insert(uint64_t name);
    int32_t find(uint64_t name) const;  // -1 where there is none
    // False says that there is no such vertex, from a table small enough for the processor's cache.
    bool may_have(uint64_t name) const {
        const size_t at = bit(name);
        return seen_[at / 64] >> at % 64 & 1;
    }

  private:
    static constexpr int kBitsOfSlot = 3;  // 8 bits for each slot, so that one in 16 to 32 names is taken for another
    size_t slot(uint64_t name) const { return (name * 0x9e3779b97f4a7c15u) >> shift_; }
    size_t bit(uint64_t name) const { return (name * 0x9e3779b97f4a7c15u) >> (shift_ - kBitsOfSlot); }
    void place(uint64_t name, size_t slot, int32_t vertex);
    void resize(int bits);
    void grow();

    Buffer<int32_t> slots_;
    Buffer<uint64_t> seen_;  // a bit is set where a name was hashed to it
    std::vector<uint64_t> names_;
    size_t size_ = 0, mask_ = 0;
    int shift_ = 0;
};

// Over position alone: `xy` is its standard deviation in pixels. Throws std::overflow_error where coordinates cannot be
// numbered.
void build_gaussian(const Picture& picture, float xy, Table& table, Lattice& lattice);

// Over position and colour, `rgb` in levels of 0..255.
void build_bilateral(const Picture& picture, float xy, float rgb, Table& table, Lattice& lattice);

}  // namespace crf
