// The permutohedral lattice (Adams, Baek and Davis 2010) of one picture: which vertices its pixels lie between, and
// which vertices neighbour each other along each of its axes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "buffer.hpp"
#include "table.hpp"

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

// Over position alone: `xy` is its standard deviation in pixels. Throws std::overflow_error where coordinates cannot be
// numbered.
void build_gaussian(const Picture& picture, float xy, Table& table, Lattice& lattice);

// Over position and colour, `rgb` in levels of 0..255.
void build_bilateral(const Picture& picture, float xy, float rgb, Table& table, Lattice& lattice);

}  // namespace crf
