import { describe, expect, it } from "vitest";
import { PullMeter } from "../../../cli/src/domain/compose/pull-meter.js";

const layer = (letter: string, bytes: number) => ({ digest: `sha256:${letter.repeat(64)}`, bytes });
const id = (letter: string): string => letter.repeat(12);
const told = (meter: PullMeter, lines: readonly string[]): string[] =>
  lines.flatMap((line) => {
    const amount = meter.line(line);
    return amount === null ? [] : [`${amount.label}: ${amount.done} of ${amount.total} ${amount.unit}`];
  });

describe("how far a pull is", () => {
  it("is told in bytes of downloaded layers, and then of unpacked ones", () => {
    const meter = new PullMeter("x on box", [layer("a", 500), layer("b", 300), layer("c", 40)]);
    const lines = [
      "docker.io/x@sha256:1: Pulling from x",
      `${id("a")}: Already exists`,
      `${id("b")}: Pulling fs layer`,
      `${id("c")}: Download complete`,
      `${id("b")}: Verifying Checksum`,
      `${id("b")}: Download complete`,
      `${id("b")}: Pull complete`,
      `${id("c")}: Pull complete`,
      "Digest: sha256:1",
    ];
    expect(told(meter, lines)).toEqual([
      "pulling x on box: 500 of 840 bytes",
      "pulling x on box: 500 of 840 bytes",
      "pulling x on box: 540 of 840 bytes",
      "pulling x on box: 540 of 840 bytes",
      "pulling x on box: 840 of 840 bytes",
      "unpacking x on box: 800 of 840 bytes",
      "unpacking x on box: 840 of 840 bytes",
    ]);
  });

  it("counts neither a layer twice nor what is no layer of the image", () => {
    const meter = new PullMeter("x on box", [layer("a", 500), layer("b", 300), layer("a", 500)]);
    const lines = [`${id("d")}: Download complete`, `${id("a")}: Download complete`, `${id("a")}: Pull complete`];
    expect(told(meter, lines)).toEqual(["pulling x on box: 500 of 800 bytes", "pulling x on box: 500 of 800 bytes"]);
  });

  it("is told in layers that are unpacked where nobody knows their length", () => {
    const lines = [`${id("a")}: Pulling fs layer`, `${id("b")}: Already exists`, `${id("a")}: Download complete`];
    expect(told(new PullMeter("x on box", []), [...lines, `${id("a")}: Pull complete`])).toEqual([
      "pulling x on box: 0 of 1 layers",
      "pulling x on box: 1 of 2 layers",
      "pulling x on box: 1 of 2 layers",
      "pulling x on box: 2 of 2 layers",
    ]);
  });
});
