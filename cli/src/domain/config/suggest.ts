/** Edit distance with swaps of neighbours (optimal string alignment), so that `prot` is one step from `port`. */
export function editDistance(left: string, right: string): number {
  let beforeLast: number[] = [];
  let last = Array.from({ length: right.length + 1 }, (_, column) => column);
  for (let row = 1; row <= left.length; row++) {
    const current = [row];
    for (let column = 1; column <= right.length; column++) {
      const same = left[row - 1] === right[column - 1];
      let best = Math.min((last[column] ?? 0) + 1, (current[column - 1] ?? 0) + 1, (last[column - 1] ?? 0) + (same ? 0 : 1));
      if (row > 1 && column > 1 && left[row - 1] === right[column - 2] && left[row - 2] === right[column - 1]) {
        best = Math.min(best, (beforeLast[column - 2] ?? 0) + 1);
      }
      current.push(best);
    }
    beforeLast = last;
    last = current;
  }
  return last[right.length] ?? 0;
}

const normalised = (text: string): string => text.toLowerCase().replaceAll(/[-_ ]/g, "");

/** The candidate somebody most likely meant, or null when none is near enough to be worth a guess. */
export function nearest(typed: string, candidates: readonly string[]): string | null {
  if (typed.length > 64) return null;
  const wanted = normalised(typed);
  const longer = longerName(wanted, candidates);
  if (longer !== null) return longer;
  let best: string | null = null;
  let bestDistance = Infinity;
  for (const candidate of candidates) {
    // Case and dashes hardly count; between equally near ones they decide.
    const distance = editDistance(wanted, normalised(candidate)) + editDistance(typed, candidate) / 1000;
    if (distance < bestDistance) [best, bestDistance] = [candidate, distance];
  }
  const longest = Math.max(wanted.length, best?.length ?? 0);
  const near = Math.floor(bestDistance) <= Math.max(1, Math.floor(longest / 3)) && Math.floor(bestDistance) < longest;
  return near ? best : null;
}

/** `bge-small` for `bge-small-en-v1.5`: the shortest candidate that begins with what was typed, or the only one that holds it. */
function longerName(wanted: string, candidates: readonly string[]): string | null {
  if (wanted.length < 4) return null;
  const holding = candidates.filter((candidate) => normalised(candidate).includes(wanted));
  const beginning = holding.filter((candidate) => normalised(candidate).startsWith(wanted));
  const [first] = [...beginning].sort((left, right) => left.length - right.length);
  return first ?? (holding.length === 1 ? (holding[0] ?? null) : null);
}
