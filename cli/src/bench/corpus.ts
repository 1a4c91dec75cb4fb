import { createHash } from "node:crypto";
import { normal, type SeededRandom, seededRandom } from "../domain/seeded-random.js";
import { adjectives, adverbs, nouns, prepositions, topics, verbs } from "./vocabulary.js";

/** Raised when the same seed would give other texts than before, so that reports are not compared across the change. */
export const corpusVersion = 1;

const streams = { passage: 11, query: 12, gauss: 13 } as const;
const openings = [
  "However,",
  "Therefore,",
  "Meanwhile,",
  "In practice,",
  "As a result,",
  "For example,",
  "By contrast,",
  "Since then,",
];

/**
 * Texts for load that no cache can know: endless, no two equal (each names its own ordinal, as tickets and orders do),
 * decided by the seed alone. Lengths are log-normal as in real passages: most between 20 and 150 words, few up to 300.
 */
export interface Corpus {
  seed: number;
  passage(ordinal: number): string;
  /** A search query, 3 to 12 words. */
  query(ordinal: number): string;
  /** Names the corpus in a report: equal hashes mean equal texts. */
  hash: string;
}

export function seededCorpus(seed: number): Corpus {
  const corpus = {
    seed,
    passage: (ordinal: number): string => passage(seededRandom(seed, streams.passage, ordinal), ordinal),
    query: (ordinal: number): string => query(seededRandom(seed, streams.query, ordinal), ordinal),
  };
  const hash = createHash("sha256").update(`corpus ${String(corpusVersion)} seed ${String(seed)}`);
  for (let ordinal = 0; ordinal < 64; ordinal += 1) hash.update(corpus.passage(ordinal)).update(corpus.query(ordinal));
  return { ...corpus, hash: hash.digest("hex") };
}

/**
 * A vector like `base` but equal to no other: real embeddings are few (each costs an inference), searches are many.
 * @param base a unit vector
 * @returns a unit vector at a cosine of about 0.95
 */
export function variation(base: readonly number[], seed: number, ordinal: number): number[] {
  const random = seededRandom(seed, streams.gauss, ordinal);
  const spread = 0.33 / Math.sqrt(base.length);
  const moved = base.map((value) => value + spread * normal(random));
  const norm = Math.hypot(...moved);
  return moved.map((value) => Number((value / norm).toFixed(6)));
}

function passage(random: SeededRandom, ordinal: number): string {
  const words = Math.round(Math.min(300, Math.max(6, Math.exp(4.0 + 0.75 * normal(random)))));
  const named = `${capital(pick(random, nouns))} ${String(ordinal)} concerns the ${nounPhrase(random)}.`;
  const sentences = [named];
  for (let length = 6; length < words;) {
    const next = sentence(random);
    sentences.push(next);
    length += next.split(" ").length;
  }
  return sentences.join(" ");
}

function query(random: SeededRandom, ordinal: number): string {
  const subject = `${pick(random, nouns)} ${String(ordinal)}`;
  const kind = random.below(3);
  if (kind === 0) return `${pick(random, topics)} ${subject} ${pick(random, verbs)} the ${nounPhrase(random)}`;
  if (kind === 1) return `${pick(random, adjectives)} ${subject} ${pick(random, prepositions)} ${nounPhrase(random)}`;
  return `${subject} ${pick(random, nouns)} ${pick(random, nouns)}`;
}

function sentence(random: SeededRandom): string {
  const opening = random.below(5) === 0 ? `${pick(random, openings)} the` : random.below(2) === 0 ? "The" : "A";
  const adverb = random.below(3) === 0 ? ` ${pick(random, adverbs)}` : "";
  const amount = random.below(6) === 0 ? `${String(2 + random.below(9998))} ` : "the ";
  const core = `${opening} ${nounPhrase(random)}${adverb} ${pick(random, verbs)} ${amount}${nounPhrase(random)}`;
  const tail = random.below(2) === 0 ? ` ${pick(random, prepositions)} the ${nounPhrase(random)}` : "";
  const clause = random.below(4) === 0 ? `, which ${pick(random, verbs)} ${pick(random, nouns)} and ${pick(random, nouns)}` : "";
  return `${core}${tail}${clause}.`;
}

function nounPhrase(random: SeededRandom): string {
  return random.below(3) === 0 ? `${pick(random, adjectives)} ${pick(random, nouns)}` : pick(random, nouns);
}

/** Zipf's law: the rank-r word has a share of about 1/r, which a rank drawn as V^u - 1 gives. */
function pick(random: SeededRandom, words: readonly string[]): string {
  const rank = Math.floor((words.length + 1) ** random.next()) - 1;
  return words[Math.min(rank, words.length - 1)] ?? "";
}

const capital = (word: string): string => word.charAt(0).toUpperCase() + word.slice(1);
