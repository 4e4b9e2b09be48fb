#include "lattice.hpp"

#include <algorithm>
#include <cmath>
#include <stdexcept>
#include <string>

namespace crf {
namespace {

typedef float Floats __attribute__((vector_size(16)));
typedef int32_t Ints __attribute__((vector_size(16)));
constexpr int kLanes = 4;
constexpr double kFarthest = 32760;  // beyond, floats are too coarse for coordinates; pydensecrf's keys end there too
constexpr size_t kMostVertices = 0x7fffffff;  // a chain keeps a vertex and a flag in 32 bits
constexpr int kSlotAhead = 24, kNameAhead = 12;  // look-ups between a prefetch and its use

// A vertex's coordinates are congruent modulo corners, so it is named by that remainder and D quotients: their number in
// a mixed base, times an odd constant modulo 2^64, which no two share and which makes the highest bits look random. Its
// neighbour's name along an axis differs by one of two constants.
template <int D>
struct Numbering {
    static constexpr uint64_t kOne = 0x9e3779b97f4a7c15u;  // of the remainder in the name: 2^64 over the golden ratio

    float scale[D];
    int32_t lowest[D];
    uint64_t step[D + 1];       // of quotient i in the name; 0 for the last coordinate, which the others imply
    uint64_t all_steps = 0;

    explicit Numbering(const float (&extent)[D]) {
        float reach[D];
        const float deviation = float(std::sqrt(2.0 / 3.0) * (D + 1));
        for (int i = 0; i < D; i++) {
            // in double, each kept as float: the rounding that pydensecrf's lattice has
            scale[i] = float(1.0 / std::sqrt((i + 2.0) * (i + 1.0)) * deviation);
            reach[i] = extent[i] * scale[i];
        }
        double total = D + 1;
        for (int i = 0; i < D; i++) {
            double high = 0;
            for (int j = i; j < D; j++) high += reach[j];
            const double low = i == 0 ? 0.0 : -double(i) * reach[i - 1];
            if (!(std::max({high, -low, D * double(reach[D - 1])}) < kFarthest)) {
                throw std::overflow_error("too many standard deviations");
            }
            lowest[i] = int32_t(std::floor(low / (D + 1))) - 4;
            const double count = std::ceil(high / (D + 1)) + 4 - lowest[i];
            step[i] = uint64_t(total) * kOne;
            total *= count;
            if (!(total < 9e18)) throw std::overflow_error("too many standard deviations");
        }
        step[D] = 0;
        for (int i = 0; i < D; i++) all_steps += step[i];
    }

    // From a name to that of the neighbour whose coordinate `axis` is D higher and whose others are 1 lower, where the
    // remainder is 0 and where it is not.
    uint64_t to_neighbour_of_0(int axis) const { return step[axis] - all_steps + D * kOne; }
    uint64_t to_neighbour(int axis) const { return step[axis] - kOne; }
};

inline Floats nearest(Floats v) { return (v + 12582912.0f) - 12582912.0f; }  // half to even, below 2^22

// Where a row's points lie: names of the vertices around each, and their barycentric weights.
template <int D>
void locate(const Numbering<D>& numbering, const float* feature, int width, int padded_width, uint64_t* name, float* weight) {
    constexpr int C = D + 1;
    for (int x = 0; x < width; x += kLanes) {
        Floats elevated[C], sum{};
        for (int j = D; j > 0; j--) {
            Floats f;
            __builtin_memcpy(&f, feature + (j - 1) * padded_width + x, sizeof f);
            f *= numbering.scale[j - 1];
            elevated[j] = sum - f * float(j);
            sum += f;
        }
        elevated[0] = sum;

        // the remainder-0 point closest in every coordinate, and how far off the plane it is
        Floats whole[C], off[C], excess{};
        for (int i = 0; i < C; i++) {
            const Floats v = nearest(elevated[i] * (1.0f / C));
            whole[i] = v;
            off[i] = elevated[i] - v * float(C);
            excess += v;
        }
        const Ints plane = __builtin_convertvector(excess, Ints);
        Ints rank[C] = {};
        for (int i = 0; i < C; i++) {
            for (int j = i + 1; j < C; j++) {
                const Ints less = off[i] < off[j];  // -1 where true
                rank[i] -= less;
                rank[j] += less + 1;
            }
        }
        Ints quotient[C];
        Floats sorted[C] = {};
        for (int i = 0; i < C; i++) {
            rank[i] += plane;
            const Ints wrap = (rank[i] < 0) - (rank[i] >= C);  // -1 below, 1 above
            rank[i] -= wrap * C;
            quotient[i] = __builtin_convertvector(whole[i], Ints) - wrap;
            const Floats v = (elevated[i] - __builtin_convertvector(quotient[i], Floats) * float(C)) * (1.0f / C);
            for (int r = 0; r < C; r++) sorted[r] = rank[i] == r ? v : sorted[r];
        }
        Floats share[C];
        for (int r = 1; r < C; r++) share[r] = sorted[D - r] - sorted[D + 1 - r];
        share[0] = sorted[D] + (1.0f - sorted[0]);

        for (int lane = 0; lane < kLanes && x + lane < width; lane++) {
            uint64_t by_rank[C], at = 0;
            for (int i = 0; i < C; i++) by_rank[rank[i][lane]] = numbering.step[i];
            for (int i = 0; i < D; i++) at += numbering.step[i] * uint64_t(quotient[i][lane] - numbering.lowest[i]);
            for (int r = 0; r < C; r++) {
                name[(x + lane) * C + r] = at;
                weight[(x + lane) * C + r] = share[r][lane];
                at += Numbering<D>::kOne - by_rank[D - r];
            }
        }
    }
}

template <int D>
void fill_features(const Picture& picture, float xy, float rgb, int y, int padded_width, float* out) {
    for (int x = 0; x < picture.width; x++) out[x] = float(x) / xy;
    for (int x = 0; x < picture.width; x++) out[padded_width + x] = float(y) / xy;
    if (D == 2) return;
    for (int c = 0; c < 3; c++) {
        const uint8_t* level = picture.data + y * picture.row_stride + c * picture.channel_stride;
        for (int x = 0; x < picture.width; x++) out[(2 + c) * padded_width + x] = float(level[x * picture.column_stride]) / rgb;
    }
}

// Room for the work on an axis.
struct Links {
    Buffer<uint8_t> is_0;     // (vertices) 1 where the remainder of the coordinates is 0
    Buffer<uint32_t> likely;  // vertices that seem to have a neighbour, later those where chains begin
    Buffer<uint64_t> names;   // of these neighbours
    Buffer<int32_t> next;     // (vertices) neighbour; -1 where there is none
    Buffer<uint8_t> follows;  // (vertices) 1 where it is another's neighbour
};

// The vertices around a pixel come in the order of their remainders.
void mark_remainder_0(const Lattice& lattice, Buffer<uint8_t>& is_0) {
    is_0.resize(lattice.vertices);
    std::fill(is_0.begin(), is_0.end(), uint8_t(0));
    for (size_t i = 0; i < lattice.vertex.size(); i += lattice.corners) is_0[lattice.vertex[i]] = 1;
}

// Finds each vertex's neighbour along an axis. Returns how many are in links.likely.
template <int D>
size_t link(const Table& table, const Numbering<D>& numbering, int axis, Links& links) {
    const size_t count = table.size();
    links.likely.resize(count);
    links.names.resize(count);
    links.next.resize(count);
    links.follows.resize(count);
    std::fill(links.next.begin(), links.next.end(), -1);
    std::fill(links.follows.begin(), links.follows.end(), uint8_t(0));
    size_t likely = 0;
    const uint64_t step = numbering.to_neighbour(axis), more_for_0 = numbering.to_neighbour_of_0(axis) - step;
    for (size_t v = 0; v < count; v++) {  // half have none: no branch, as the processor could not guess it
        const uint64_t name = table.name(v) + step + (links.is_0[v] ? more_for_0 : 0);
        links.likely[likely] = uint32_t(v);
        links.names[likely] = name;
        likely += table.may_have(name);
    }
    for (size_t i = 0; i < likely; i++) {
        if (i + kSlotAhead < likely) table.prefetch_slot(links.names[i + kSlotAhead]);
        if (i + kNameAhead < likely) table.prefetch_name(links.names[i + kNameAhead]);
        const int32_t neighbour = table.find(links.names[i]);
        links.next[links.likely[i]] = neighbour;
        if (neighbour >= 0) links.follows[neighbour] = 1;
    }
    return likely;
}

void string_together(Links& links, size_t likely, Chain& chain) {
    const int32_t* next = links.next.data();
    size_t starts = 0;
    for (size_t i = 0; i < likely; i++) {
        const uint32_t v = links.likely[i];
        links.likely[starts] = v;
        starts += (next[v] >= 0) & !links.follows[v];
    }
    chain.resize(links.next.size());
    size_t length = 0;
    for (size_t i = 0; i < starts; i++) {
        int32_t at = int32_t(links.likely[i]);
        for (; next[at] >= 0; at = next[at]) chain[length++] = uint32_t(at) * 2 + 1;
        chain[length++] = uint32_t(at) * 2;
    }
    chain.resize(length);
}

template <int D>
void build(const Picture& picture, float xy, float rgb, Table& table, Lattice& lattice) {
    constexpr int C = D + 1;
    float extent[D];
    for (int i = 0; i < D; i++) extent[i] = i == 0 ? picture.width / xy : i == 1 ? picture.height / xy : 255.0f / rgb;
    const Numbering<D> numbering(extent);
    const size_t pixels = size_t(picture.height) * picture.width, row = size_t(picture.width) * C;
    if (pixels * C > kMostVertices) throw std::overflow_error("too many pixels");
    lattice.corners = C;
    lattice.vertex.resize(pixels * C);
    lattice.weight.resize(pixels * C);
    lattice.used.resize(picture.height + 1);
    table.clear(pixels / 4);
    const int padded_width = (picture.width + kLanes - 1) / kLanes * kLanes;
    std::vector<float> feature(size_t(padded_width) * D, 0.0f);
    std::vector<uint64_t> name(std::max(row, size_t(C)));
    for (int y = 0; y < picture.height; y++) {
        lattice.used[y] = uint32_t(table.size());
        fill_features<D>(picture, xy, rgb, y, padded_width, feature.data());
        locate<D>(numbering, feature.data(), picture.width, padded_width, name.data(), lattice.weight.data() + y * row);
        uint32_t* vertex = lattice.vertex.data() + y * row;
        for (size_t i = 0; i < row; i++) {
            if (i + kSlotAhead < row) table.prefetch_slot(name[i + kSlotAhead]);
            if (i + kNameAhead < row) table.prefetch_name(name[i + kNameAhead]);
            vertex[i] = table.insert(name[i]);
        }
    }
    uint32_t filled_up = lattice.vertex[0];  // a vertex of remainder 0
    if (D == 5 && pixels % 4) {
        // pydensecrf fills up its last four pixels with zeros, and the vertices around these take part in the blurs
        std::fill(feature.begin(), feature.end(), 0.0f);
        float weight[C];
        locate<D>(numbering, feature.data(), 1, padded_width, name.data(), weight);
        filled_up = table.insert(name[0]);
        for (int r = 1; r < C; r++) table.insert(name[r]);
    }
    lattice.used[picture.height] = uint32_t(table.size());
    lattice.vertices = table.size();
    lattice.chain.resize(C);
    Links links;
    mark_remainder_0(lattice, links.is_0);
    links.is_0[filled_up] = 1;
    for (int axis = 0; axis < C; axis++) string_together(links, link<D>(table, numbering, axis, links), lattice.chain[axis]);
}

}  // namespace

float Lattice::alpha() const { return 1.0f / (1.0f + std::pow(2.0f, -float(corners - 1))); }

void build_gaussian(const Picture& picture, float xy, Table& table, Lattice& lattice) {
    build<2>(picture, xy, 1.0f, table, lattice);
}

void build_bilateral(const Picture& picture, float xy, float rgb, Table& table, Lattice& lattice) {
    build<5>(picture, xy, rgb, table, lattice);
}

}  // namespace crf
