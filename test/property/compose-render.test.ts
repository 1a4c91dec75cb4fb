import fc from "fast-check";
import { expect, test } from "vitest";
import { parse } from "yaml";
import { caddyfile, directive, word } from "../../cli/src/domain/compose/caddyfile.js";
import { readLabels } from "../../cli/src/domain/compose/labels.js";
import { HostLayout } from "../../cli/src/domain/compose/layout.js";
import {
  composeProject,
  containerName,
  hostSlots,
  modelVolume,
  parseComposeProject,
  parseContainerName,
} from "../../cli/src/domain/compose/names.js";
import { renderCompose } from "../../cli/src/domain/compose/render-compose.js";
import { composeYaml } from "../../cli/src/domain/compose/yaml.js";
import { serviceNames } from "../../cli/src/domain/names.js";
import { bgeM3, gpu, instance, nodeWith, service } from "../unit/compose/nodes.js";

const shortName = fc.stringMatching(/^[a-z](?:[a-z0-9-]{0,38}[a-z0-9])?$/);
const place = fc.record({
  project: shortName,
  environment: shortName,
  service: fc.constantFrom(...serviceNames),
  slot: fc.constantFrom(...hostSlots),
});
/** What an environment variable may hold, and what YAML, Compose or a shell might take for something else. */
const hostile = fc.oneof(
  fc.string({ unit: "binary" }),
  fc.constantFrom(
    "yes",
    "null",
    "~",
    "1e3",
    "0o17",
    "12:30:45",
    "- a",
    "a: b",
    "#",
    "|",
    "$",
    "$$",
    "${HOME}",
    "$$$",
    "'\"\\",
    "\t",
    "%",
    "@",
  ),
);

test("names of projects and containers say what they were made from", () => {
  fc.assert(
    fc.property(place, (one) => {
      expect(parseContainerName(`/${containerName(one)}`)).toEqual(one);
      const { project, environment } = one;
      expect(parseComposeProject(composeProject(project, environment))).toEqual({ project, environment });
    }),
  );
});

test("two places never have one container, and every name is one that Docker and Compose take", () => {
  fc.assert(
    fc.property(place, place, (one, other) => {
      expect(containerName(one) === containerName(other)).toBe(JSON.stringify(one) === JSON.stringify(other));
      expect(containerName(one)).toMatch(/^[a-zA-Z0-9][a-zA-Z0-9_.-]{1,120}$/);
      expect(composeProject(one.project, one.environment)).toMatch(/^[a-z0-9][a-z0-9_-]{1,100}$/);
    }),
  );
});

test("a foreign container's name is never taken for one of ours by accident", () => {
  fc.assert(
    fc.property(fc.string(), (name) => {
      const found = parseContainerName(name);
      if (found !== null) expect(containerName(found)).toBe(name.replace(/^\//, ""));
    }),
  );
});

test("different revisions, manifests or ids have different volumes, with names that Docker takes", () => {
  const ref = fc.record({ id: fc.string({ minLength: 1 }), revision: fc.string({ minLength: 1 }), manifest: fc.string() });
  fc.assert(
    fc.property(ref, ref, (one, other) => {
      expect(modelVolume(one) === modelVolume(other)).toBe(JSON.stringify(one) === JSON.stringify(other));
      expect(modelVolume(one)).toMatch(/^[a-zA-Z0-9][a-zA-Z0-9_.-]{1,100}$/);
    }),
  );
});

test("sockets fit into 107 bytes, however long the names are, and two environments never share a directory", () => {
  fc.assert(
    fc.property(place, place, fc.constantFrom("/var/lib/gpuctl", "/srv/data/"), (one, other, data) => {
      const layout = new HostLayout(data, one.project, one.environment);
      expect(layout.private(`reranker-r99999-9f3ab2c1-cpu`).length).toBeLessThanOrEqual(107);
      expect(layout.proxyAdmin.length).toBeLessThanOrEqual(107);
      const same = one.project === other.project && one.environment === other.environment;
      const second = new HostLayout(data, other.project, other.environment);
      expect([layout.run === second.run, layout.root === second.root]).toEqual([same, same]);
    }),
  );
});

/** What Compose does to every text: `$$` is a dollar sign; a single one would be a variable. */
function substituted(value: unknown): unknown {
  if (typeof value === "string") {
    expect(value.replaceAll("$$", "")).not.toContain("$");
    return value.replaceAll("$$", "$");
  }
  if (Array.isArray(value)) return value.map(substituted);
  if (typeof value !== "object" || value === null) return value;
  return Object.fromEntries(Object.entries(value).map(([key, member]) => [key, substituted(member)]));
}

test("any value comes out of the YAML as it went in", () => {
  const variable = fc.stringMatching(/^[A-Za-z_][A-Za-z0-9_]{0,12}$/).filter((name) => name !== "__proto__");
  const value = fc.dictionary(variable, fc.oneof(hostile, fc.array(hostile), fc.integer(), fc.boolean()));
  fc.assert(
    fc.property(value, (given) => {
      const text = composeYaml({ services: { one: given } }, "for a test");
      expect(substituted(parse(text))).toEqual({ services: { one: { ...given } } });
      expect(composeYaml({ services: { one: given } }, "for a test")).toBe(text);
    }),
  );
});

test("an instance gets exactly its environment, and nothing it says can win over what gpuctl sets", () => {
  const variable = fc.stringMatching(/^[A-Z_][A-Z0-9_]{0,12}$/);
  fc.assert(
    fc.property(fc.dictionary(variable, hostile), hostile, (env, host) => {
      const one = instance("embedder", "a", { env: { ...env, GPUCTL_HOST: host, GPUCTL_MODEL_DIR: host, HOME: host } }, { gpu });
      const file = substituted(parse(renderCompose(nodeWith({ services: [service("embedder", [one])] })))) as {
        services: Record<string, { environment: Record<string, string>; labels: Record<string, string> }>;
      };
      const rendered = file.services["embedder-a"]!;
      expect(rendered.environment).toEqual({
        ...env,
        HOME: "/tmp",
        GPUCTL_HOST: "0.0.0.0",
        GPUCTL_PORT: "8001",
        GPUCTL_MODEL_DIR: "/gpuctl/model",
        GPUCTL_INSTANCE_FILE: `/gpuctl/run/${one.id}/instance.json`,
      });
      expect(readLabels(rendered.labels)).toMatchObject({ instance: one.id, slot: "a", fingerprint: one.fingerprint });
    }),
    { numRuns: 30 },
  );
});

test("the order in which instances are found changes nothing", () => {
  const all = [instance("embedder", "a"), instance("embedder", "b"), instance("embedder", "cpu")];
  fc.assert(
    fc.property(fc.shuffledSubarray(all, { minLength: all.length }), (found) => {
      const text = renderCompose(nodeWith({ services: [service("embedder", found, true)] }));
      expect(text).toBe(renderCompose(nodeWith({ services: [service("embedder", all, true)] })));
      expect(text.match(/name: "gpuctl-model_/g)).toHaveLength(1);
      expect(text).toContain(modelVolume(bgeM3));
    }),
    { numRuns: 10 },
  );
});

/** Caddy's lexer, as far as words go: blanks part them, double quotes keep them together. */
const lexed = (line: string): string[] =>
  [...line.matchAll(/"([^"]*)"|(\S+)/g)].map(([, quoted, plain]) => quoted ?? plain ?? "");

test("a word of a Caddyfile is read back as it was given, or refused", () => {
  fc.assert(
    fc.property(fc.array(fc.oneof(fc.string(), hostile), { minLength: 1 }), (words) => {
      const rendered = words.map((text) => {
        try {
          return word(text);
        } catch {
          expect(text).toMatch(/[{}"`\\\p{Cc}]/u);
          return null;
        }
      });
      if (rendered.includes(null)) return;
      const text = caddyfile([directive(...words)]);
      expect(text.split("\n")).toHaveLength(2);
      expect(lexed(text)).toEqual(words);
    }),
  );
});
