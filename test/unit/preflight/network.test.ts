import fc from "fast-check";
import { expect, test } from "vitest";
import { collides, isLoopback, isPublic, isWildcard, parseNetwork, within } from "../../../cli/src/domain/preflight/network.js";

test("networks hold what is in them, in either family, and nothing of the other", () => {
  expect(within("10.1.2.3", ["10.0.0.0/8"])).toBe(true);
  expect(within("11.1.2.3", ["10.0.0.0/8"])).toBe(false);
  expect(within("10.0.0.0/7", ["10.0.0.0/8"])).toBe(false);
  expect(within("fd00::2", ["10.0.0.0/8", "fc00::/7"])).toBe(true);
  expect(within("10.1.2.3", ["::/0"])).toBe(false);
  expect(within("::ffff:10.0.0.1", ["::ffff:10.0.0.0/104"])).toBe(true);
});

test("what is no network holds nothing and is in nothing", () => {
  for (const text of [
    "",
    "10.0.0.256",
    "10.0.0.0/33",
    "10.0.0.0/8/8",
    "1::2::3",
    "::/129",
    "fd00",
    "1:2:3:4:5:6:7:8:9",
    "::1.2.3",
  ]) {
    expect(parseNetwork(text), text).toBeNull();
    expect(within("10.0.0.1", [text]), text).toBe(false);
    expect(within(text, ["0.0.0.0/0", "::/0"]), text).toBe(false);
  }
});

test("an address is in every network that is cut from it, and in none whose last bit differs", () => {
  fc.assert(
    fc.property(fc.ipV4(), fc.integer({ min: 1, max: 32 }), (address, prefix) => {
      expect(within(address, [`${address}/${prefix.toString()}`])).toBe(true);
      const other = address.split(".").map(Number);
      const byte = Math.floor((prefix - 1) / 8);
      other[byte] = (other[byte] ?? 0) ^ (1 << (7 - ((prefix - 1) % 8)));
      expect(within(address, [`${other.join(".")}/${prefix.toString()}`])).toBe(false);
    }),
  );
  fc.assert(
    fc.property(fc.ipV6(), fc.integer({ min: 0, max: 128 }), (address, prefix) => {
      expect(within(address, [`${address}/${prefix.toString()}`])).toBe(true);
    }),
  );
});

test("public, loopback and wildcard addresses", () => {
  expect(["203.0.113.7", "2001:db8::1", "8.8.8.8"].filter(isPublic)).toHaveLength(3);
  expect(
    [
      "10.0.0.5",
      "172.31.0.1",
      "192.168.1.1",
      "100.100.1.1",
      "198.18.7.3",
      "127.0.0.1",
      "fd00::2",
      "fe80::1",
      "::1",
      "eth0",
    ].filter(isPublic),
  ).toEqual([]);
  expect(["127.8.8.8", "::1", "10.0.0.1"].map(isLoopback)).toEqual([true, true, false]);
  expect(["0.0.0.0", "::", "0:0:0:0:0:0:0:0", "127.0.0.1"].map(isWildcard)).toEqual([true, true, true, false]);
});

test("sockets collide with their own address and with the wildcard of their family; :: takes both", () => {
  expect(collides("10.0.0.5", "10.0.0.5")).toBe(true);
  expect(collides("10.0.0.5", "10.0.0.6")).toBe(false);
  expect(collides("0.0.0.0", "10.0.0.5")).toBe(true);
  expect(collides("::", "10.0.0.5")).toBe(true);
  expect(collides("0.0.0.0", "::1")).toBe(false);
  expect(collides("10.0.0.5", "::1")).toBe(false);
});
