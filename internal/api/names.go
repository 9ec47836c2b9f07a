package api

import (
	"crypto/sha256"
	"encoding/hex"
)

// HostIfName is the node's end of the veth of one container interface: "lxc"
// and the first eight hex digits of the SHA-256 of "containerID/ifName". The
// plugin derives it to take the device away while no agent is there to ask.
func HostIfName(containerID, ifName string) string {
	sum := sha256.Sum256([]byte(containerID + "/" + ifName))
	return "lxc" + hex.EncodeToString(sum[:4])
}
