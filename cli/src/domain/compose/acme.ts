import { layoutOf, tlsEnd } from "./host-files.js";
import type { ComposeNode } from "./node.js";

/** Whom Caddy asks for a certificate when nobody says whom, in its order. */
const usualDirectories = ["https://acme-v02.api.letsencrypt.org/directory", "https://acme.zerossl.com/v2/DV90"];

/**
 * Where the listener that ends TLS on this node keeps the certificate that it got, one path for each ACME server that may have given it;
 * nothing where it gets none. One of another server is not served, so it does not count.
 */
export function acmeCertificates(node: ComposeNode): readonly string[] {
  const { tls } = node;
  const end = tlsEnd(node);
  if (tls.mode !== "acme" || end === null) return [];
  const layout = layoutOf(node);
  const kept = `${end === "ingress" ? layout.ingressData : layout.proxyData}/caddy/certificates`;
  const name = tls.domain.toLowerCase();
  const directories = tls.directory === null ? usualDirectories : [tls.directory];
  return directories.map((directory) => `${kept}/${folderOf(directory)}/${name}/${name}.crt`);
}

/** As Caddy (CertMagic) names the folder of an ACME server: host and path, with dashes. */
function folderOf(directory: string): string {
  const [, host = "", path = ""] = /^https:\/\/([^/]+)([^?]*)/.exec(directory) ?? [];
  return `${host}${path.replaceAll("/", "-")}`
    .toLowerCase()
    .replaceAll("+", "_plus_")
    .replaceAll(":", "-")
    .replaceAll("..", "")
    .replaceAll(/[^\w@.-]/g, "");
}
