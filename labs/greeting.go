package labs

import "wirelab.dev/wirelab/internal/cluster"

// greeting runs where a person has opened a shell. Its arguments are the shell, the prompt, what the place is, and tools:
// those that are there are named. An empty prompt leaves it to the shell.
const greeting = `
shell=$1 prompt=$2 place=$3; shift 3
has=
for tool; do
	if command -v "$tool" >/dev/null 2>&1; then has="$has, $tool"; fi
done
echo "$place${has:+: here are ${has#, }}; exit leaves it"
if [ -n "$prompt" ]; then export PS1="$prompt"; fi
exec $shell`

// tools are what a person looks around with, in pods and on nodes. kubectl knows the cluster on control planes only.
func tools(controlPlane bool) []string {
	all := []string{"ip", "ss", "ping", "arping", "tcpdump", "curl", "iptables", "nft", "conntrack", "bpftool", "crictl"}
	if controlPlane {
		all = append(all, "kubectl")
	}
	return all
}

// nodeShell is the command of a shell on a node. Its prompt has the node's name from the login shell.
func nodeShell(n cluster.Node, greet bool) []string {
	if !greet {
		return []string{"bash", "-l"}
	}
	return append([]string{"bash", "-c", greeting, "bash", "bash -l", "", "node " + n.Name}, tools(n.Role == cluster.RoleControlPlane)...)
}

// podShell is the command of a shell in a pod, of whose shells nothing is known but that sh is one.
func podShell(pod, node string, greet bool) []string {
	if !greet {
		return []string{"sh"}
	}
	return append([]string{"sh", "-c", greeting, "sh", "sh", pod + "# ", "pod " + pod + " on node " + node}, tools(false)...)
}
