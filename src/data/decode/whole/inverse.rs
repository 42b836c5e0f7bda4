//! The inverse transform of a block (Loeffler, Ligtenberg, Moschytz 1989), with the scaled integers and the rounding of
//! libjpeg's accurate method (jidctint.c).

/// Bits behind the point of a constant, and of what is between the two passes.
const BITS: u32 = 13;
const BETWEEN: u32 = 2;

/// Writes the 8×8 pixels of a block; `stride` is the length of a row of them.
pub(super) fn inverse(block: &[i16; 64], quantization: &[i32; 64], to: &mut [u8], stride: usize) {
    if block[1..].iter().all(|&frequency| frequency == 0) {
        let mean = i32::from(block[0]).wrapping_mul(quantization[0]);
        let mean = (mean.wrapping_add(4) >> 3).wrapping_add(128).clamp(0, 255) as u8;
        for row in 0..8 {
            to[row * stride..][..8].fill(mean);
        }
        return;
    }
    let mut values = [0; 64];
    for (value, (&frequency, &step)) in values.iter_mut().zip(block.iter().zip(quantization)) {
        *value = i32::from(frequency).wrapping_mul(step);
    }
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx2") {
        // SAFETY: the processor has AVX2.
        unsafe { both_ways_avx2(&mut values) };
        return write(&values, to, stride);
    }
    both_ways(&mut values);
    write(&values, to, stride);
}

fn write(values: &[i32; 64], to: &mut [u8], stride: usize) {
    for (row, values) in values.as_chunks::<8>().0.iter().enumerate() {
        let bytes = values.map(|value| value.wrapping_add(128).clamp(0, 255) as u8);
        to[row * stride..][..8].copy_from_slice(&bytes);
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn both_ways_avx2(values: &mut [i32; 64]) {
    both_ways(values);
}

#[inline(always)]
fn both_ways(values: &mut [i32; 64]) {
    pass::<{ BITS - BETWEEN }>(values);
    transpose(values);
    pass::<{ BITS + BETWEEN + 3 }>(values);
    transpose(values);
}

#[inline(always)]
fn transpose(values: &mut [i32; 64]) {
    let from = *values;
    for y in 0..8 {
        for x in 0..8 {
            values[8 * y + x] = from[8 * x + y];
        }
    }
}

/// Transforms the columns; so many bits are rounded off.
#[inline(always)]
fn pass<const OFF: u32>(v: &mut [i32; 64]) {
    for x in 0..8 {
        let at = |row: usize| v[8 * row + x];
        let times = |value: i32, constant: i32| value.wrapping_mul(constant);
        // Sums of three and more wrap only where the frequencies are none of a picture.
        let add = i32::wrapping_add;
        let sub = i32::wrapping_sub;

        let (two, six) = (at(2), at(6));
        let both = times(add(two, six), 4_433);
        let (low, high) = (sub(both, times(six, 15_137)), add(both, times(two, 6_270)));
        let sum = times(add(at(0), at(4)), 1 << BITS);
        let difference = times(sub(at(0), at(4)), 1 << BITS);
        let even = [
            add(sum, high),
            add(difference, low),
            sub(difference, low),
            sub(sum, high),
        ];

        let (a, b, c, d) = (at(7), at(5), at(3), at(1));
        let (ad, bc, ac, bd) = (add(a, d), add(b, c), add(a, c), add(b, d));
        let all = times(add(ac, bd), 9_633);
        let (ad, bc) = (times(ad, -7_373), times(bc, -20_995));
        let (ac, bd) = (add(times(ac, -16_069), all), add(times(bd, -3_196), all));
        let odd = [
            add(add(times(d, 12_299), ad), bd),
            add(add(times(c, 25_172), bc), ac),
            add(add(times(b, 16_819), bc), bd),
            add(add(times(a, 2_446), ad), ac),
        ];

        let rounded = |value: i32| add(value, 1 << (OFF - 1)) >> OFF;
        for (row, (&even, odd)) in even.iter().zip(odd).enumerate() {
            v[8 * row + x] = rounded(add(even, odd));
            v[8 * (7 - row) + x] = rounded(sub(even, odd));
        }
    }
}
