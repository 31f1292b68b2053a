//! NumPy's legacy generator, so that index lists published with it can be drawn again exactly.

/// `numpy.random.RandomState`: MT19937 seeded by Knuth's initialiser, with the bounded integers
/// and the Fisher–Yates permutation of NumPy's legacy interface.
#[derive(Debug, Clone)]
pub struct NumpyRandom {
    state: [u32; 624],
    position: usize,
}

impl NumpyRandom {
    /// `RandomState(seed)`.
    pub fn new(seed: u32) -> Self {
        let mut state = [0_u32; 624];
        state[0] = seed;
        for i in 1..624 {
            let previous = state[i - 1];
            state[i] = 1_812_433_253_u32.wrapping_mul(previous ^ (previous >> 30)).wrapping_add(i as u32);
        }
        Self { state, position: 624 }
    }

    /// The next 32 bits (Matsumoto and Nishimura 1998).
    pub fn next_u32(&mut self) -> u32 {
        if self.position == 624 {
            for i in 0..624 {
                let y = (self.state[i] & 0x8000_0000) | (self.state[(i + 1) % 624] & 0x7fff_ffff);
                let odd = if y & 1 == 1 { 0x9908_b0df } else { 0 };
                self.state[i] = self.state[(i + 397) % 624] ^ (y >> 1) ^ odd;
            }
            self.position = 0;
        }
        let mut y = self.state[self.position];
        self.position += 1;
        y ^= y >> 11;
        y ^= (y << 7) & 0x9d2c_5680;
        y ^= (y << 15) & 0xefc6_0000;
        y ^ (y >> 18)
    }

    /// A uniform integer in `0..=max` by masked rejection.
    fn interval(&mut self, max: u32) -> u32 {
        if max == 0 {
            return 0;
        }
        let mask = u32::MAX >> max.leading_zeros();
        loop {
            let value = self.next_u32() & mask;
            if value <= max {
                return value;
            }
        }
    }

    /// `choice(n, k, replace=False)`: the first `k` of a permutation of `0..n`.
    pub fn choice(&mut self, n: usize, k: usize) -> Vec<usize> {
        let mut order: Vec<usize> = (0..n).collect();
        for i in (1..n).rev() {
            let j = self.interval(i as u32) as usize;
            order.swap(i, j);
        }
        order.truncate(k);
        order
    }
}

#[cfg(test)]
mod tests;
