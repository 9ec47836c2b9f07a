package main

import (
	"fmt"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
)

func newMountBPFFSCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "mount-bpffs DIR",
		Short: "Mount a bpffs on DIR unless there is one",
		Long: "Mount a bpffs on DIR unless there is one. The chart runs it ahead of the agent in a container whose mounts\n" +
			"reach the node, so that what the agent pins outlives its container.",
		Args: cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error { return mountBPFFS(args[0]) },
	}
}

func mountBPFFS(dir string) error {
	var fs unix.Statfs_t
	if err := unix.Statfs(dir, &fs); err != nil {
		return fmt.Errorf("look at %s: %w", dir, err)
	}
	if fs.Type == unix.BPF_FS_MAGIC {
		return nil
	}
	if err := unix.Mount("bpffs", dir, "bpf", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "mode=0700"); err != nil {
		return fmt.Errorf("mount a bpffs on %s: %w", dir, err)
	}
	return nil
}
