import { warning, type DoctorFinding } from "./finding.js";

/** @param missing  why HTTPS does not answer somewhere, a sentence each: what is missing, so what that means */
export function checkCertificates(missing: readonly string[]): DoctorFinding[] {
  return missing.map((sentence) => {
    const [what = sentence, ...because] = sentence.split(", so ");
    return warning("ports", "certificate-missing", what, because.join(", so "), [
      "see that the ACME server and the node reach each other (ports 80 and 443, the name in DNS)",
    ]);
  });
}
