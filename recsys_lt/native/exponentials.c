/* Exponentials of rows of scores and their sums, in one pass over each. */
#include "exponential.h"
#include "random.h"

/* x = exp(x - shift), and their sum: float sums of stretches, which are added in double. */
static inline double exponentials(float *x, int64_t width, float shift) {
    double total = 0;
    for (int64_t start = 0; start < width; start += 512) {
        int64_t stop = start + 512 < width ? start + 512 : width;
        float sum = 0;
#pragma omp simd reduction(+ : sum)
        for (int64_t i = start; i < stop; i++) {
            x[i] = exponential(x[i] - shift);
            sum += x[i];
        }
        total += sum;
    }
    return total;
}

/* Rows of x [n, width], `stride` apart, become exp(x); sums [n]. */
void exp_rows(float *x, int64_t n, int64_t width, int64_t stride, float *sums) {
#pragma omp parallel for schedule(static) if (n * width > GRAIN)
    for (int64_t i = 0; i < n; i++) sums[i] = (float)exponentials(x + i * stride, width, 0.0f);
}

/* The same of rows in each of which scores below its cut become 0; what is left is exp(x - shift). */
void exp_rows_above(float *x, int64_t n, int64_t width, int64_t stride, const float *cuts, const float *shifts,
                    float *sums) {
#pragma omp parallel for schedule(static) if (n * width > GRAIN)
    for (int64_t i = 0; i < n; i++) {
        float *row = x + i * stride, cut = cuts[i], shift = shifts[i];
        double total = 0;
        for (int64_t start = 0; start < width; start += 512) {
            int64_t stop = start + 512 < width ? start + 512 : width;
            float sum = 0;
#pragma omp simd reduction(+ : sum)
            for (int64_t j = start; j < stop; j++) {
                float share = exponential(row[j] - shift);
                row[j] = row[j] < cut ? 0.0f : share; /* NaN is below nothing, and shows */
                sum += row[j];
            }
            total += sum;
        }
        sums[i] = (float)total;
    }
}

/* SCE and its gradient by the scores: positive [n] and negative [n, k], rows `stride` apart, are replaced by it. */
void sce_rows(float *positive, int64_t positive_stride, float *negative, int64_t n, int64_t k, int64_t stride,
              float alpha, float *losses) {
#pragma omp parallel for schedule(static) if (n * k > GRAIN)
    for (int64_t i = 0; i < n; i++) {
        float *row = negative + i * stride, own = positive[i * positive_stride], top = own;
        float shift = logf(alpha), highest = -INFINITY;
#pragma omp simd reduction(max : highest)
        for (int64_t j = 0; j < k; j++) highest = row[j] > highest ? row[j] : highest;
        if (highest + shift > top) top = highest + shift;
        float of_own = expf(own - top);
        double partition = exponentials(row, k, top - shift) + of_own;
        float inverse = (float)(1.0 / partition);
        for (int64_t j = 0; j < k; j++) row[j] *= inverse;
        losses[i] = (float)log(partition) - (own - top);
        positive[i * positive_stride] = of_own * inverse - 1.0f;
    }
}
