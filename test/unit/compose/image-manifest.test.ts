import { describe, expect, test } from "vitest";
import { readImageManifest, roomFor } from "../../../cli/src/domain/compose/image-manifest.js";
import { isInsecure, serverOf } from "../../../cli/src/domain/images/registry.js";

const layer = (digit: string, size: number): { digest: string; size: number } => ({ digest: `sha256:${digit.repeat(64)}`, size });

describe("a registry's manifest", () => {
  test("of one image has its layers, as they are sent", () => {
    const text = JSON.stringify({ schemaVersion: 2, config: layer("c", 7), layers: [layer("1", 30), layer("2", 40)] });
    const layers = [
      { digest: layer("1", 0).digest, bytes: 30 },
      { digest: layer("2", 0).digest, bytes: 40 },
    ];
    expect(readImageManifest(text, "x86_64")).toEqual({ kind: "image", layers });
  });

  test("of several machines leads to that of one's own", () => {
    const manifests = ["amd64", "arm64"].map((architecture) => ({
      digest: `sha256:${architecture}`,
      platform: { architecture },
    }));
    const text = JSON.stringify({ manifests });
    expect(readImageManifest(text, "x86_64")).toEqual({ kind: "list", digest: "sha256:amd64" });
    expect(readImageManifest(text, "aarch64")).toEqual({ kind: "list", digest: "sha256:arm64" });
    expect(readImageManifest(text, "riscv64")).toBeNull();
  });

  test.each(["", "no such manifest", "[]", '{"layers":[{"digest":"sha256:1"}]}', '{"layers":null}'])("is none: %j", (text) => {
    expect(readImageManifest(text, "x86_64")).toBeNull();
  });
});

test("room is needed for what is sent and for what it unpacks to, for each layer once and not for those that are there", () => {
  const layers = ["1", "2", "2", "3"].map((digit) => ({ digest: digit, bytes: 100 }));
  expect(roomFor(layers, new Set())).toBe(900);
  expect(roomFor(layers, new Set(["3", "other"]))).toBe(600);
  expect(roomFor([], new Set())).toBe(0);
});

test("a registry without TLS is one that the engine is told to trust, by name or by network", () => {
  const info = JSON.stringify({
    InsecureRegistryCIDRs: ["127.0.0.0/8", "10.0.0.0/8"],
    IndexConfigs: { "docker.io": { Secure: true }, "registry.lan:5000": { Secure: false } },
  });
  const plain = (reference: string): boolean => isInsecure(serverOf(reference), info);
  expect(["registry.lan:5000/a/b@sha256:1", "10.1.2.3:5000/a:1", "127.0.0.1:5000/a"].map(plain)).toEqual([true, true, true]);
  expect(["registry.lan/a", "registry.example.com/a", "8.8.8.8:5000/a", "docker.io/library/caddy"].map(plain)).toEqual([
    false,
    false,
    false,
    false,
  ]);
  expect(isInsecure("10.1.2.3:5000", "Cannot connect to the Docker daemon")).toBe(false);
});
