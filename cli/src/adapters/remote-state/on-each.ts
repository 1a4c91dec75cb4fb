/**
 * Does something on all hosts side by side and waits for all of them, also when one fails: nothing is under way any more when the
 * first failure is thrown.
 */
export async function onEach<Host, Value>(
  hosts: readonly Host[],
  work: (host: Host) => Promise<Value>,
): Promise<readonly Value[]> {
  const answers = await Promise.allSettled(hosts.map(work));
  const failed = answers.find((answer) => answer.status === "rejected");
  if (failed !== undefined) throw failed.reason;
  return answers.flatMap((answer) => (answer.status === "fulfilled" ? [answer.value] : []));
}
