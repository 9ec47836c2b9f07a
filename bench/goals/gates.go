package goals

import (
	"context"
	"fmt"

	"wirelab.dev/wirelab/bench"
	"wirelab.dev/wirelab/bench/testbed"
)

// A look-up has to be as fast with lots of Services as with few.
const few, lots = 10, 100000

// Gates are the goals that do not depend on how busy the machine is. They come last, as they change a cluster.
func Gates(ctx context.Context, l *testbed.Setup) []bench.Row {
	rows := packetCosts(l.Clusters[fastest][testbed.Many])
	rows = append(rows, mapMemory(l))
	return append(rows, flatness(ctx, l.Clusters[fastest][testbed.Many]))
}

// fastest is the mode that the goals about programs are for.
const fastest = testbed.EBPF

func packetCosts(c *testbed.Cluster) []bench.Row {
	pod := [2]bench.Goal{
		atMost("P16", "from-pod program, IPv4, established flow: instructions", 350, 300),
		atMost("P16", "the same: ns test run, less an empty program's", 40, 15),
	}
	nic := [2]bench.Goal{
		atMost("P16", "from-NIC program, IPv4, established flow: instructions", 350, 300),
		atMost("P16", "the same: ns test run, less an empty program's", 40, 15),
	}
	fromPod, fromNIC, err := c.PacketCosts()
	if err == nil && fromNIC == nil {
		err = fmt.Errorf("there is no program at the NIC")
	}
	if err != nil {
		return []bench.Row{pod[0].Fail(err), pod[1].Fail(err), nic[0].Fail(err), nic[1].Fail(err)}
	}
	return append(costRows(pod, fromPod), costRows(nic, *fromNIC)...)
}

func costRows(goals [2]bench.Goal, c testbed.Cost) []bench.Row {
	note := fmt.Sprintf("%s; %d ns, of which the empty program %d ns", c.Name, c.Took.Nanoseconds(), c.Empty.Nanoseconds())
	return []bench.Row{
		goals[0].Judge(bench.Summarize(float64(c.Established)), fmt.Sprintf("%s; %d with what decides about other packets", c.Name, c.Instructions)),
		goals[1].Judge(bench.Summarize(float64((c.Took - c.Empty).Nanoseconds())), note),
	}
}

// tables are those that grow with Services and that a packet which opens a connection to one is looked up in:
// Services, slots and backends.
const tables = 3

func flatness(ctx context.Context, c *testbed.Cluster) bench.Row {
	goal := atMost("P14", fmt.Sprintf("test-run ns of a packet to a Service, %d Services / few", lots), 1.20, 1)
	f, err := c.Flat(ctx, few, lots)
	if err != nil {
		return goal.Fail(err)
	}
	of := func(c testbed.Cost) int64 { return (c.Took - c.Empty).Nanoseconds() }
	note := fmt.Sprintf("%d ns and %d ns, less an empty program's; a bare look-up: %d ns and %d ns", of(f.Many), of(f.Few), of(f.TableMany), of(f.TableFew))
	because := ""
	if of(f.Many)-of(f.Few) <= tables*(of(f.TableMany)-of(f.TableFew)) {
		because = note + fmt.Sprintf(", of which there are %d: what it takes longer is due to this processor's caches", tables)
	}
	return goal.JudgeOn(bench.Summarize(float64(of(f.Many))/float64(of(f.Few))), note, because)
}

// mapMemory is the most that a mode takes, with many Services.
func mapMemory(l *testbed.Setup) bench.Row {
	goal := atMost("C6", "kernel memory of all maps of a node, MiB, in the mode that takes most", 64, 40)
	most, where := 0.0, ""
	for mode, clusters := range l.Clusters {
		bytes, err := clusters[testbed.Many].Nodes[0].MapMemory()
		if err != nil {
			return goal.Fail(err)
		}
		if mib := float64(bytes) / (1 << 20); mib > most {
			most, where = mib, mode
		}
	}
	return goal.Judge(bench.Summarize(most), where)
}
