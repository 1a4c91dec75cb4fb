import { addressAt, parseNetwork } from "./cidr.js";

/** A vSwitch takes frames of this size, not the usual 1500. Bytes. */
const vswitchMtu = 1400;

export interface VswitchLink {
  /** VLAN of the vSwitch, 4000 to 4091. */
  id: number;
  /** Main interface of the server. */
  interface: string;
  /** Address of the server on the vSwitch. */
  address: string;
  /** Subnet of the vSwitch. */
  subnet: string;
  /** The whole private network, reached through the first address of the subnet. */
  range: string;
}

/** Unit that makes the VLAN at every start of the host. */
export function vswitchUnit({ id, interface: link, address, subnet, range }: VswitchLink): string {
  const network = parseNetwork(subnet);
  if (network === null) throw new RangeError(`${subnet} is no network`);
  const vlan = `gpuctl.${id}`;
  return [
    "[Unit]",
    "Description=Private network of gpuctl over a vSwitch",
    "After=network-online.target",
    "Wants=network-online.target",
    // Containers publish on its address.
    "Before=docker.service",
    "",
    "[Service]",
    "Type=oneshot",
    "RemainAfterExit=yes",
    `ExecStartPre=-/usr/sbin/ip link delete ${vlan}`,
    `ExecStart=/usr/sbin/ip link add link ${link} name ${vlan} type vlan id ${id}`,
    `ExecStart=/usr/sbin/ip link set ${vlan} mtu ${vswitchMtu} up`,
    `ExecStart=/usr/sbin/ip address add ${address}/${network.prefix} dev ${vlan}`,
    `ExecStart=/usr/sbin/ip route replace ${range} via ${addressAt(network, 1)} dev ${vlan} mtu ${vswitchMtu}`,
    `ExecStop=/usr/sbin/ip link delete ${vlan}`,
    "",
    "[Install]",
    "WantedBy=multi-user.target",
    "",
  ].join("\n");
}
