/* The transforms of a Winograd convolution F(4x4, 3x3) (Lavin and Gray, CVPR 2016), and of the gradient by the kernel of
 * F(4x4, 3x3) and F(3x3, 4x4); the products between them are a batched matrix product of the caller's.
 *
 * Pictures are (N, H, W, C), dense; C is a multiple of 8. A tile is 6 x 6 of the input and side x side of the output,
 * side 4 or 3; its corner in the input lies 5 - side rows and columns before that in the output. What lies outside the
 * picture is zero. Tiles count along a row, then down, then to the next picture. */

#include <stdint.h>

enum { IN = 6, OUT = 4, WIDTH = 8, MOST = 4096 };

typedef float vec __attribute__((vector_size(4 * WIDTH)));
typedef int32_t bits __attribute__((vector_size(4 * WIDTH)));
typedef float loose __attribute__((vector_size(4 * WIDTH), aligned(4), may_alias));

#define INLINE static inline __attribute__((always_inline))

static const float zeros[MOST];

INLINE vec get(const float *p) { return *(const loose *)p; }
INLINE void put(float *p, vec v) { *(loose *)p = v; }

/* B^T d along one axis: of six values at a distance of `step` */
INLINE void forward(const vec *d, vec *v, int step) {
  vec a = d[4 * step] - 4.0f * d[2 * step], b = d[3 * step] - 4.0f * d[step];
  vec c = d[4 * step] - d[2 * step], e = 2.0f * (d[3 * step] - d[step]);
  v[0] = 4.0f * d[0] - 5.0f * d[2 * step] + d[4 * step];
  v[step] = a + b;
  v[2 * step] = a - b;
  v[3 * step] = c + e;
  v[4 * step] = c - e;
  v[5 * step] = 4.0f * d[step] - 5.0f * d[3 * step] + d[5 * step];
}

/* A^T m along one axis: four values of six */
INLINE void backward(const vec *m, int from, vec *y, int to) {
  vec a = m[from] + m[2 * from], b = m[from] - m[2 * from];
  vec c = m[3 * from] + m[4 * from], d = m[3 * from] - m[4 * from];
  y[0] = m[0] + a + c;
  y[to] = b + 2.0f * d;
  y[2 * to] = a + 4.0f * c;
  y[3 * to] = b + 8.0f * d + m[5 * from];
}

/* A y along one axis: six values of `side`; of four the transpose of `backward` */
INLINE void spread(int side, const vec *y, vec *z, int from, int to) {
  vec a = y[0] + y[2 * from], b = y[from], c = y[0] + 4.0f * y[2 * from], d = 2.0f * y[from];
  if (side == 4) b += y[3 * from], d += 8.0f * y[3 * from];
  z[0] = y[0];
  z[to] = a + b;
  z[2 * to] = a - b;
  z[3 * to] = c + d;
  z[4 * to] = c - d;
  z[5 * to] = y[(side - 1) * from];
}

/* Where a tile lies */
typedef struct {
  int64_t picture, top, left;
} place;

INLINE place place_of(int64_t tile, int64_t side, int64_t height, int64_t width) {
  const int64_t down = (height + side - 1) / side, across = (width + side - 1) / side;
  return (place){tile / (down * across), tile / across % down * side, tile % across * side};
}

/* Addresses of size x size values from a corner on, row by row; zeros outside the picture. */
INLINE void addresses(const float **from, const float *x, place at, int64_t before, int64_t size, int64_t height,
                      int64_t width, int64_t channels) {
  for (int64_t i = 0; i < size; i++)
    for (int64_t j = 0; j < size; j++) {
      const int64_t row = at.top - before + i, column = at.left - before + j;
      const int inside = row >= 0 && row < height && column >= 0 && column < width;
      from[i * size + j] = inside ? x + ((at.picture * height + row) * width + column) * channels : zeros;
    }
}

/* Tiles first ... first + count - 1 of `x` into v[36][plane], tile t at row t - base of C values. */
void tiles_in(const float *x, float *v, int64_t side, int64_t height, int64_t width, int64_t channels, int64_t first,
              int64_t count, int64_t base, int64_t plane) {
  for (int64_t t = first; t < first + count; t++) {
    const float *from[IN * IN];
    addresses(from, x, place_of(t, side, height, width), 5 - side, IN, height, width, channels);
    float *to = v + (t - base) * channels;
    for (int64_t c = 0; c < channels; c += WIDTH) {
      vec d[IN * IN], e[IN * IN];
      for (int k = 0; k < IN * IN; k++) d[k] = get(from[k] + c);
      for (int k = 0; k < IN; k++) forward(d + k, e + k, IN);
      for (int k = 0; k < IN; k++) forward(e + k * IN, d + k * IN, 1);
      for (int k = 0; k < IN * IN; k++) put(to + k * plane + c, d[k]);
    }
  }
}

/* The way back: m[36][plane] into tiles of `y`, of side 4, plus `bias`; below zero is zero where `relu` says so. */
void tiles_out(const float *m, float *y, const float *bias, int64_t relu, int64_t height, int64_t width,
               int64_t channels, int64_t first, int64_t count, int64_t base, int64_t plane) {
  for (int64_t t = first; t < first + count; t++) {
    const place at = place_of(t, OUT, height, width);
    const int64_t rows = height - at.top < OUT ? height - at.top : OUT;
    const int64_t columns = width - at.left < OUT ? width - at.left : OUT;
    const float *from = m + (t - base) * channels;
    float *to = y + ((at.picture * height + at.top) * width + at.left) * channels;
    for (int64_t c = 0; c < channels; c += WIDTH) {
      vec d[IN * IN], e[OUT * IN], f[OUT * OUT];
      const vec b = get(bias + c);
      for (int k = 0; k < IN * IN; k++) d[k] = get(from + k * plane + c);
      for (int k = 0; k < IN; k++) backward(d + k, IN, e + k, IN);
      for (int k = 0; k < OUT; k++) backward(e + k * IN, 1, f + k * OUT, 1);
      for (int64_t i = 0; i < rows; i++)
        for (int64_t j = 0; j < columns; j++) {
          vec value = f[i * OUT + j] + b;
          if (relu) value = (vec)(~(value < 0.0f) & (bits)value); /* NaN stays NaN */
          put(to + (i * width + j) * channels + c, value);
        }
    }
  }
}

INLINE void of_gradient(int side, const float *y, float *z, int64_t height, int64_t width, int64_t channels,
                        int64_t first, int64_t count, int64_t base, int64_t plane) {
  for (int64_t t = first; t < first + count; t++) {
    const float *from[OUT * OUT];
    addresses(from, y, place_of(t, side, height, width), 0, side, height, width, channels);
    float *to = z + (t - base) * channels;
    for (int64_t c = 0; c < channels; c += WIDTH) {
      vec d[OUT * OUT], e[IN * OUT], f[IN * IN];
      for (int k = 0; k < side * side; k++) d[k] = get(from[k] + c);
      for (int k = 0; k < side; k++) spread(side, d + k, e + k, side, side);
      for (int k = 0; k < IN; k++) spread(side, e + k * side, f + k * IN, 1, 1);
      for (int k = 0; k < IN * IN; k++) put(to + k * plane + c, f[k]);
    }
  }
}

/* Tiles of the gradient of `y` into z[36][plane]: A dy A^T, tile t at row t - base. */
void tiles_of_gradient(const float *y, float *z, int64_t side, int64_t height, int64_t width, int64_t channels,
                       int64_t first, int64_t count, int64_t base, int64_t plane) {
  if (side == 4)
    of_gradient(4, y, z, height, width, channels, first, count, base, plane);
  else
    of_gradient(3, y, z, height, width, channels, first, count, base, plane);
}
