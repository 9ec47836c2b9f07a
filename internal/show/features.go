package show

import (
	"fmt"
	"slices"

	"wirelab.dev/wirelab/internal/api"
)

// FeatureList is of what networks of this kind are known to do.
func FeatureList() List[api.Feature] {
	return List[api.Feature]{
		Command: "features",
		Short:   "List what networks of this kind are known to do, and what of it is on",
		Long: `List what networks of this kind are known to do, each as on, off or not implemented, with what it
needs. What is on is read back from programs, maps, links and rules; of what is needed of the kernel,
the kernel is asked whether it has it.`,
		Table: tableOf([]string{"FEATURE", "STATE", "AS", "NEEDS", "THIS KERNEL"}, func(f api.Feature) []string {
			return []string{f.Name, f.State, dash(f.Value), dash(f.Needs), dash(f.Kernel)}
		}),
		Across: featuresOnNodes,
	}
}

// featuresOnNodes is what nodes have alike once, and where they differ each node's behind the first.
func featuresOnNodes(all []api.Feature, node string, more []api.Feature) []api.Feature {
	if len(all) == 0 {
		return slices.Clone(more)
	}
	for _, m := range more {
		at := slices.IndexFunc(all, func(f api.Feature) bool { return f.Name == m.Name })
		if at < 0 {
			all = append(all, m)
			continue
		}
		if all[at] != m {
			m.Name = fmt.Sprintf("%s (%s)", m.Name, node)
			all = slices.Insert(all, at+1, m)
		}
	}
	return all
}
