/* Scores of sampled items and their gradients, without a copy of the items' vectors. */
#include <stdlib.h>
#include <string.h>

#include <omp.h>

#include "random.h"

/* integers(): uniform in [0, high) for keys [n]; out [n, k]. The remainder of a 63-bit word, its division done by a
   multiplication: with 2**(l - 1) < high <= 2**l and m = ceil(2**(63 + l) / high), floor(m x / 2**(63 + l)) is
   floor(x / high) for every x below 2**63 (Granlund & Montgomery, PLDI 1994). */
void integers(const int64_t *keys, int64_t n, int64_t k, int64_t high, int64_t *out) {
    int l = 0;
    while ((1ULL << l) < (uint64_t)high) l++;
    unsigned __int128 power = (unsigned __int128)1 << (63 + l);
    uint64_t m = high > 1 ? (uint64_t)((power + (uint64_t)high - 1) / (uint64_t)high) : 0;
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < n; i++) {
        uint64_t *to = (uint64_t *)(out + i * k);
        words_of((uint64_t)keys[i], k, to);
        for (int64_t j = 0; j < k; j++) {
            uint64_t x = to[j] & 0x7FFFFFFFFFFFFFFFULL;
            uint64_t quotient = high > 1 ? (uint64_t)(((unsigned __int128)m * x) >> 64) >> (l - 1) : x;
            to[j] = x - quotient * (uint64_t)high;
        }
    }
}

/* Sixteen floats at any address; the compiler makes of them what the processor has. */
typedef float __attribute__((vector_size(64), aligned(4), may_alias)) sixteen;

static inline void scores_row(const float *state, const float *table,
                                                             const int64_t *ids, int64_t k, int64_t d, float *out) {
    for (int64_t j = 0; j < k; j++) {
        const float *item = table + ids[j] * d;
        float sum = 0;
#pragma omp simd reduction(+ : sum)
        for (int64_t c = 0; c < d; c++) sum += state[c] * item[c];
        out[j] = sum;
    }
}

/* out[n, k] = states[n, d] . table[ids[n, k], d] */
void sampled_scores(const float *states, const float *table, const int64_t *ids, int64_t n, int64_t k, int64_t d,
                    float *out) {
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < n; i++) {
        scores_row(states + i * d, table, ids + i * k, k, d, out + i * k);
    }
}

/* out[d] += sum over j of by[j] * vectors[ids[j], d], a strip of columns at a time, its sums in registers. */
static inline void sum_row(const float *vectors, const int64_t *ids, const float *by, int64_t k, int64_t d,
                           float *out) {
    int64_t c = 0;
    for (; c + 64 <= d; c += 64) {
        sixteen a = {0}, b = {0}, e = {0}, f = {0};
        for (int64_t j = 0; j < k; j++) {
            const sixteen *vector = (const sixteen *)(vectors + ids[j] * d + c);
            a += by[j] * vector[0], b += by[j] * vector[1], e += by[j] * vector[2], f += by[j] * vector[3];
        }
        sixteen *to = (sixteen *)(out + c);
        to[0] += a, to[1] += b, to[2] += e, to[3] += f;
    }
    for (; c + 16 <= d; c += 16) {
        sixteen a = {0};
        for (int64_t j = 0; j < k; j++) a += by[j] * *(const sixteen *)(vectors + ids[j] * d + c);
        *(sixteen *)(out + c) += a;
    }
    for (; c < d; c++) {
        float a = 0;
        for (int64_t j = 0; j < k; j++) a += by[j] * vectors[ids[j] * d + c];
        out[c] += a;
    }
}

/* by_states[n, d] += sum over k of by_scores[n, k] * table[ids[n, k], d] */
void sampled_by_states(const float *table, const int64_t *ids, const float *by_scores, int64_t n, int64_t k, int64_t d,
                       float *by_states) {
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < n; i++) {
        sum_row(table, ids + i * k, by_scores + i * k, k, d, by_states + i * d);
    }
}

/* by_table[i, d] += sum over (n, k) with ids[n, k] == i of weights[n] * by_scores[n, k] * states[n, d].

   The draws are sorted by item first (a counting sort, stable): each item's sum is then formed in registers, by one
   thread, in the order of the draws, so the result does not depend on the number of threads.
   Returns 0, or 1 if there was no memory. */
int sampled_by_table(const float *states, const int64_t *ids, const float *by_scores, const float *weights, int64_t n,
                     int64_t k, int64_t d, int64_t items, float *by_table) {
    /* Each thread counts every item: no more threads than make that a small part of the work. */
    int64_t threads = omp_get_max_threads(), useful = 1 + 4 * n * k / (items > 0 ? items : 1);
    if (threads > useful) threads = useful;
    int64_t *starts = calloc((size_t)(threads * items + 1), sizeof *starts);
    int64_t *ends = malloc((size_t)items * sizeof *ends + 1);
    int64_t *rows = malloc((size_t)(n * k) * sizeof *rows + 1);
    float *values = malloc((size_t)(n * k) * sizeof *values + 1);
    if (!starts || !ends || !rows || !values) {
        free(starts), free(ends), free(rows), free(values);
        return 1;
    }
#pragma omp parallel num_threads(threads)
    {
        int64_t t = omp_get_thread_num(), team = omp_get_num_threads();
        int64_t first = n * t / team, stop = n * (t + 1) / team;
        int64_t *own = starts + t * items;
        for (int64_t e = first * k; e < stop * k; e++) own[ids[e]]++;
#pragma omp barrier
#pragma omp single
        {
            int64_t at = 0;
            for (int64_t i = 0; i < items; i++) {
                for (int64_t u = 0; u < team; u++) {
                    int64_t count = starts[u * items + i];
                    starts[u * items + i] = at;
                    at += count;
                }
                ends[i] = at;
            }
        }
        for (int64_t row = first; row < stop; row++)
            for (int64_t e = row * k; e < (row + 1) * k; e++) {
                int64_t at = own[ids[e]]++;
                rows[at] = row;
                values[at] = by_scores[e] * weights[row];
            }
#pragma omp barrier
#pragma omp for schedule(dynamic, 64)
        for (int64_t i = 0; i < items; i++) {
            int64_t begin = i ? ends[i - 1] : 0;
            sum_row(states, rows + begin, values + begin, ends[i] - begin, d, by_table + i * d);
        }
    }
    free(starts), free(ends), free(rows), free(values);
    return 0;
}
