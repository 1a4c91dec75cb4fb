/** Whether labels fit a selector: `a=b,c!=d,e,!f,g in (x,y),h notin (z)`, all of which must hold. */
export function fits(selector: string, labels: Readonly<Record<string, string>>): boolean {
  const parts = selector.split(/,(?![^(]*\))/).map((part) => part.trim());
  return parts.filter((part) => part !== "").every((part) => holds(part, labels));
}

function holds(part: string, labels: Readonly<Record<string, string>>): boolean {
  const among = /^(\S+)\s+(in|notin)\s*\(([^)]*)\)$/.exec(part);
  if (among !== null) {
    const [, key = "", how, list = ""] = among;
    const inside = list.split(",").some((value) => value.trim() === labels[key]);
    return how === "in" ? inside : !inside;
  }
  const compared = /^([^!=\s]+)\s*(!=|==?)\s*(.*)$/.exec(part);
  if (compared !== null) {
    const [, key = "", how, value] = compared;
    return how === "!=" ? labels[key] !== value : labels[key] === value;
  }
  return part.startsWith("!") ? !(part.slice(1) in labels) : part in labels;
}
