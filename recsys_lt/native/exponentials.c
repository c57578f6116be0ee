/* Exponentials of rows of scores and their sums, in one pass over each. */
#include "exponential.h"
#include "random.h"

/* Rows of x [n, width], `stride` apart, become exp(x - shift); their sums [n] are float sums of stretches, added in
   double. Shifts of 0 if NULL. */
void exp_rows(float *x, int64_t n, int64_t width, int64_t stride, const float *shifts, float *sums) {
#pragma omp parallel for schedule(static) if (n * width > GRAIN)
    for (int64_t i = 0; i < n; i++) {
        float *row = x + i * stride, shift = shifts ? shifts[i] : 0.0f;
        double total = 0;
        for (int64_t start = 0; start < width; start += 512) {
            int64_t stop = start + 512 < width ? start + 512 : width;
            float sum = 0;
#pragma omp simd reduction(+ : sum)
            for (int64_t j = start; j < stop; j++) {
                row[j] = exponential(row[j] - shift);
                sum += row[j];
            }
            total += sum;
        }
        sums[i] = (float)total;
    }
}
