// Labels that hardly meet may share a column of the mean field, which then has fewer: the fewer its values, the fewer
// lines of the processor's cache its rows take.
//
// Labels a and b of one column have one message, the sum of theirs, so that at a pixel the posterior q(a), up to its
// normalisation, is too large by q(a) * (exp(message of b) - 1), and q(b) likewise. That is next to nothing where they
// live in different parts of the picture, or where both are weak.
#pragma once

#include <vector>

#include "grid.hpp"

namespace crf {

// For each column the numbers of those that it is made of.
using Columns = std::vector<std::vector<int>>;

// Joins columns two by two, those first that meet least, as long as all together is too large by at most `most`,
// down to the least number of columns that this allows and that has shorter rows. `meeting` (columns, row) is
// q(a) * (exp(message of b) - 1), summed over pixels as `most` is. Empty where rows would be no shorter.
Columns join(const std::vector<float>& meeting, int columns, int row, float most);

// Rows of so many values -> rows of padded(columns): the sums of what is joined; `to` may be `from`.
void add_columns(const float* from, size_t rows, int labels, const Columns& columns, float* to);

// Rows of the first of each column's members, and kNever beyond the columns.
void take_first(const float* from, size_t rows, int labels, const Columns& columns, float* to);

// The one that has the largest logit among the labels of a column at pixel (y, x), the first of equals, and its share of
// the column's posterior.
struct Best {
    int label;
    float share;
};
Best best_of(const Grid& grid, int y, int x, const std::vector<int>& labels);

// What share of the column's posterior each of its labels has at pixel (y, x).
void shares(const Grid& grid, int y, int x, const std::vector<int>& labels, float* share);

}  // namespace crf
