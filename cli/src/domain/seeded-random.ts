/** A stream of pseudo-random numbers that a seed decides completely (sfc32; passes PractRand, unlike an LCG). */
export interface SeededRandom {
  /** Uniform in [0, 1). */
  next(): number;
  /** A whole number in [0, bound). */
  below(bound: number): number;
}

/**
 * @param seed    what the user typed (or was told)
 * @param streams independent streams under one seed, for example a purpose and an ordinal: `seededRandom(7, 2, 4711)`
 */
export function seededRandom(seed: number, ...streams: readonly number[]): SeededRandom {
  let [a, b, c, d] = [mix(seed >>> 0), mix(Math.floor(seed / 0x1_0000_0000) ^ 0x9e3779b9), 0x243f6a88, 1];
  for (const stream of streams) {
    a = mix(a ^ (stream >>> 0));
    b = mix(b ^ a ^ Math.floor(stream / 0x1_0000_0000));
    c = mix(c ^ b);
  }
  const next32 = (): number => {
    const sum = (((a + b) | 0) + d) | 0;
    d = (d + 1) | 0;
    a = b ^ (b >>> 9);
    b = (c + (c << 3)) | 0;
    c = (((c << 21) | (c >>> 11)) + sum) | 0;
    return sum >>> 0;
  };
  for (let round = 0; round < 12; round += 1) next32();
  // 53 bits, so that below() reaches every whole number and log(1 - next()) never sees a coarse grid.
  const next = (): number => ((next32() >>> 5) * 0x400_0000 + (next32() >>> 6)) / 0x20_0000_0000_0000;
  return { next, below: (bound) => Math.floor(next() * bound) };
}

/** A standard normal value (Box-Muller; the second one is thrown away to keep streams simple). */
export function normal(random: SeededRandom): number {
  return Math.sqrt(-2 * Math.log(1 - random.next())) * Math.cos(2 * Math.PI * random.next());
}

/** Murmur3's finaliser: every input bit reaches every output bit. */
function mix(value: number): number {
  let h = value | 0;
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b);
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35);
  return (h ^ (h >>> 16)) | 0;
}
