package main

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/client-go/tools/clientcmd"

	"wirelab.dev/wirelab/labs"
	"wirelab.dev/wirelab/profiles"
	"wirelab.dev/wirelab/verify"
)

// clusterFlags say which cluster, by its context in a kubeconfig.
type clusterFlags struct{ context, kubeconfig string }

func (c *clusterFlags) flags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&c.context, "context", "", "the cluster, by its context in the kubeconfig")
	f.StringVar(&c.kubeconfig, "kubeconfig", "", "the kubeconfig that has the context (default: the user's)")
	must(cmd.MarkFlagFilename("kubeconfig"))
	must(cmd.RegisterFlagCompletionFunc("context", func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		return c.contexts(), cobra.ShellCompDirectiveNoFileComp
	}))
}

// contexts are those of the kubeconfig.
func (c *clusterFlags) contexts() []string {
	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	rules.ExplicitPath = c.kubeconfig
	cfg, err := rules.Load()
	if err != nil {
		return nil
	}
	return slices.Sorted(maps.Keys(cfg.Contexts))
}

// named wants the context to be said: a cluster is never changed because it happens to be the current one.
func (c *clusterFlags) named() error {
	if c.context != "" {
		return nil
	}
	if all := c.contexts(); len(all) > 0 {
		return usageError{fmt.Errorf("say which cluster with --context: there are %s", strings.Join(all, ", "))}
	}
	return usageError{errors.New("say which cluster with --context: the kubeconfig has none")}
}

// installArgs are what lab install is asked for.
type installArgs struct {
	labs.InstallOptions
	of       clusterFlags
	set      []string
	imagesTo string
	values   bool
	out      *format
}

func newInstallCmd() *cobra.Command {
	a := installArgs{out: newFormat("text", "json")}
	cmd := &cobra.Command{
		Use:   "install PROFILE --context CONTEXT",
		Short: "Put the network of a profile on a cluster that is there",
		Long: `install puts the network and the demo of a profile on a cluster that something else made, kubeadm,
k3s or kind, without a network of its own. It makes no cluster: what a profile's section cluster says
counts for nothing, but for its pod subnet and whether there is a kube-proxy.

Before it changes anything it looks for what would be in the way: another network, kube-proxy where
the profile replaces it, podCIDRs that do not fit, names and ports that are taken, rights that are
missing, and kernels that cannot run the profile's programs, which a pod on each node tries. Each is
named, with what to do. When a first install fails, or is interrupted, it is taken away again. On a
cluster that has the network already it is brought up to date. The checks of lab verify run last, where
the nodes are containers that kind made on this machine: what they look with is on nodes, not in the
API server.

No registry has the images: the nodes must have them. With --images they are written to a folder, an
archive each, and no cluster is asked; on a node, ctr -n k8s.io images import FILE takes one in.
With --values the values that the chart would get are printed, and the cluster is left as it is.`,
		Example: `  lab install ebpf --images ./images
  for f in images/*.tar; do kind load image-archive --name mine $f; done
  lab install ebpf --context kind-mine
  lab install kubeproxy --context admin@prod --kubeconfig ./admin.conf --set demo.enabled=false`,
		Args:              usageArgs(named("profile", profileNames)),
		ValidArgsFunction: completeProfiles(1),
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			if a.Profile, err = profiles.Load(args[0], profiles.Options{Set: a.set, Env: os.Environ()}); err != nil {
				return err
			}
			if a.imagesTo != "" {
				return writeImages(cmd, &a)
			}
			if err := a.of.named(); err != nil {
				return err
			}
			if a.values {
				return printValues(cmd, &a)
			}
			return install(cmd, &a)
		},
	}
	a.of.flags(cmd)
	f := cmd.Flags()
	f.StringVar(&a.imagesTo, "images", "", "write the images that the nodes must have to this folder, and do nothing else")
	f.BoolVar(&a.values, "values", false, "print the values that the chart would get, and do nothing else")
	f.BoolVar(&a.Retain, "retain", false, "leave what was installed when something fails, to look at it")
	f.BoolVar(&a.SkipVerify, "no-verify", false, "do not run the checks")
	f.DurationVar(&a.ReadyTimeout, "wait", 3*time.Minute, "how long nodes, agent, DNS and demo may take to become ready")
	must(cmd.MarkFlagDirname("images"))
	setFlag(cmd, &a.set)
	a.out.flag(cmd)
	return cmd
}

func writeImages(cmd *cobra.Command, a *installArgs) error {
	if a.of.context != "" {
		return usageError{errors.New("--images asks no cluster: leave out --context")}
	}
	files, err := labs.WriteImages(a.Profile, a.imagesTo)
	if err != nil {
		return err
	}
	return a.out.print(cmd.OutOrStdout(), files, func() string { return strings.Join(files, "\n") + "\n" })
}

// printValues prints what helm -f reads.
func printValues(cmd *cobra.Command, a *installArgs) error {
	values, err := labs.ChartValues(cmd.Context(), a.Profile, a.of.kubeconfig, a.of.context)
	if err != nil {
		return err
	}
	out := a.out
	if out.value == "text" {
		out = newFormat("yaml")
	}
	return out.print(cmd.OutOrStdout(), values, nil)
}

func install(cmd *cobra.Command, a *installArgs) error {
	a.Context, a.Kubeconfig = a.of.context, a.of.kubeconfig
	show := newProgress(cmd.ErrOrStderr(), a.out.value == "json")
	a.Progress = show.event
	r, err := labs.Install(cmd.Context(), a.InstallOptions)
	show.close()
	if r.Report != nil && !r.Report.Passed() && a.out.value == "text" {
		err = errors.Join(err, r.Report.WriteText(cmd.ErrOrStderr(), false))
	}
	if err != nil && r.Report != nil && r.Report.Count(verify.Fail) > 0 {
		err = claimError{err}
	}
	if err != nil && a.out.value == "json" {
		show.event(labs.Event{Step: "install", State: labs.StepFailed, Note: err.Error()})
		err = reportedError{err}
	} else if err != nil {
		return err
	}
	printed := a.out.print(cmd.OutOrStdout(), r, func() string { return installText(r, kubectlOf(a.Kubeconfig, r.Context)) })
	return errors.Join(err, printed)
}

func installText(r *labs.InstallResult, kubectl string) string {
	s := fmt.Sprintf("profile %s is on the cluster of context %s", r.Profile, r.Context)
	if r.Report != nil {
		s += " and verified"
	}
	return s + fmt.Sprintf(": %s get pods -A\n", kubectl)
}

func newUninstallCmd() *cobra.Command {
	var of clusterFlags
	out := newFormat("text", "json")
	cmd := &cobra.Command{
		Use:   "uninstall --context CONTEXT",
		Short: "Take the network that install brought away from a cluster",
		Long: `uninstall removes the demo, the network and all that it made on the nodes, and waits until that is
gone. The cluster is without a network then, as it was: pods that still run are named, as nothing
reaches them any more. A network that is not there is no error. What lab up made is left alone:
lab down removes it.`,
		Example: "  lab uninstall --context kind-mine",
		Args:    usageArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := of.named(); err != nil {
				return err
			}
			r, err := labs.Uninstall(cmd.Context(), of.kubeconfig, of.context, waiting(cmd.ErrOrStderr()))
			if err != nil {
				return err
			}
			return out.print(cmd.OutOrStdout(), r, func() string { return uninstallText(r) })
		},
	}
	of.flags(cmd)
	out.flag(cmd)
	return cmd
}

func uninstallText(r *labs.UninstallResult) string {
	if !r.Removed {
		return fmt.Sprintf("the cluster of context %s does not have the network\n", r.Context)
	}
	s := fmt.Sprintf("the network is removed from the cluster of context %s\n", r.Context)
	if len(r.Stranded) > 0 {
		s += fmt.Sprintf("without a network now, to be deleted once there is another: %s\n", strings.Join(r.Stranded, ", "))
	}
	return s
}
