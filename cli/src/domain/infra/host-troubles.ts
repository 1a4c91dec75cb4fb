import { failed, inFolder, type Rule } from "./trouble.js";

/** What a connection that nobody answers looks like: address, and the reason where there is one. */
const unanswered = /dial tcp (\S+:\d+): (?:i\/o timeout|connect: (connection timed out|connection refused|no route to host))/;

const endsThem = "gpuctl destroy -e ENVIRONMENT --confirm ENVIRONMENT   # every environment that serves there";

/** Troubles of commands on hosts and on this machine, as Go's SSH, its network code and shells say them. */
const hostTroubles: readonly Rule[] = [
  {
    pattern: /ssh: unable to authenticate|no supported methods remain/,
    words: (_, doing, about) =>
      failed(`the host of ${about} refuses the SSH key`, "none of the keys that were offered may log in as this user", [
        "ssh-add -l   # is the key there that the host knows? ssh-add FILE adds one",
        `or without an agent: ${inFolder(doing, `pulumi config set --secret gpuctl:sshPrivateKey --stack ${doing.stack} < FILE`)}`,
        "ssh USER@HOST true   # goes without a password when it is right",
        doing.again,
      ]),
  },
  {
    pattern: /ssh: host key mismatch|knownhosts: key (?:mismatch|is unknown)/,
    words: (_, { stack, again }, about) =>
      failed(
        `the host of ${about} has another key than the configuration says`,
        "it was installed again, or something else answers at its address",
        [
          "ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub   # on its console; never believe the network here",
          `write the right one to gpuctl:nodes.NAME.hostKey in Pulumi.${stack}.yaml`,
          again,
        ],
      ),
  },
  {
    pattern: unanswered,
    words: ([, address = "", reason], { stack, again }, about) =>
      failed(`${address} cannot be reached for ${about}`, reason ?? "nothing answers there", [
        `is the address that you come from in gpuctl:operators.addresses of Pulumi.${stack}.yaml? No other may use SSH`,
        "a box that was prepared before that list changed still has the old one, in ufw: name the old address and the new one together, from the old one",
        "or on its console: echo GPUCTL_SSH_ADDRESSES=NEW/32 | bash /var/lib/gpuctl/host/prepare-host.sh -",
        "is the host on, and are host and port right?",
        again,
      ]),
  },
  {
    pattern: /^\s*(\S+) was the box at (\S+), and would become another one/m,
    words: ([, name = "", address = ""], { stack, again }) =>
      failed(`${name} was the box at ${address}, and would become another one`, "its address and its host key both differ", [
        `give the other box a node of its own, with another name, in Pulumi.${stack}.yaml`,
        `take ${name} out of that file when its box is to be given back`,
        again,
      ]),
  },
  {
    pattern: /releases serve here: ([^;"\n]+)/,
    words: ([, names = ""], { again }, about) =>
      failed(
        `releases serve on the box of ${about}: it was not given back`,
        `${names.trim()} would go on answering, without the box's firewall`,
        [endsThem, again],
      ),
  },
  {
    pattern: /containers run here, and Docker does not say which/,
    words: (_, { again }, about) =>
      failed(`nobody knows what serves on the box of ${about}: it was not given back`, "Docker there does not say what runs", [
        "on the box: systemctl restart docker",
        endsThem,
        again,
      ]),
  },
  {
    pattern: /the host has to be restarted, and releases serve on it: (.+)\. Next: /,
    words: ([, names = ""], { stack, again }, about) =>
      failed(
        `the host of ${about} has to be restarted, and releases serve on it`,
        `${names} would be away for as long as it is`,
        [
          "restart it when they may be away: systemctl reboot",
          `or allow it at any time: reboot: always, for its node in Pulumi.${stack}.yaml`,
          again,
        ],
      ),
  },
  {
    pattern: /^\s*there is no RuntimeClass (\S+) in this cluster/m,
    words: ([, name = ""], { stack, again }) =>
      failed(`there is no RuntimeClass ${name} in the cluster`, "pods with a card could not start, and nobody would say why", [
        "kubectl get runtimeclass   # k3s brings one of the name nvidia when its server starts, if it is not too old",
        `another name there: write it to gpuctl:cluster.runtime.runtimeClass in Pulumi.${stack}.yaml`,
        `none: gpuctl:cluster.runtime.createRuntimeClass: true in Pulumi.${stack}.yaml has the stack make it`,
        again,
      ]),
  },
  {
    pattern: /kubectl: (?:command )?not found|"kubectl": executable file not found/,
    words: (_, { again }) =>
      failed("kubectl is not installed on this machine", "the program taints nodes and takes them out of a cluster with it", [
        "https://kubernetes.io/docs/tasks/tools/#kubectl",
        "kubectl config get-contexts   # has to have the one of gpuctl:cluster.context",
        again,
      ]),
  },
];

/** Troubles of a cluster, as the Kubernetes API, Helm and Go's network code say them. */
const clusterTroubles: readonly Rule[] = [
  {
    pattern: unanswered,
    words: ([, address = "", reason], { again }, about) =>
      failed(`the cluster's API at ${address} cannot be reached for ${about}`, reason ?? "nothing answers there", [
        "kubectl --context CONTEXT get nodes   # the context of gpuctl:cluster.context",
        again,
      ]),
  },
  {
    pattern: /AlreadyExists|\w "([^"]+)" already exists|cannot re-use a name that is still in use/,
    words: ([, name], doing, about) =>
      failed(
        `${name ?? about} is already in the cluster`,
        "the stack did not make it, or a change that was cut off left it there",
        [
          "kubectl get KIND NAME --show-labels; helm list --all-namespaces   # whose is it?",
          "somebody else's: take another name in the configuration, such as gpuctl:cluster.namespace",
          `your own: ${inFolder(doing, `pulumi import TYPE NAME ID --stack ${doing.stack}`)}, or delete it there`,
          doing.again,
        ],
      ),
  },
];

/** What may be wrong with a resource of this type that is no matter of the provider. */
export function troublesOf(type: string): readonly Rule[] {
  if (type.startsWith("command:")) return hostTroubles;
  return type.startsWith("kubernetes:") ? clusterTroubles : [];
}
