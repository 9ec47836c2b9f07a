package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/netip"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"

	"wirelab.dev/wirelab/docs"
	"wirelab.dev/wirelab/internal/docsite"
	"wirelab.dev/wirelab/internal/nearest"
)

func newDocsCmd() *cobra.Command {
	var listen, dir string
	cmd := &cobra.Command{
		Use:   "docs [PAGE]",
		Short: "Serve wirelab's documentation, or write it as static pages",
		Long: `docs serves the pages that lab carries, with a reference of its commands, until it is interrupted.
They need no network: a room can read them from one laptop with --listen, and --write makes a
folder of them that a browser opens as it is. With the name of a page, the address that it prints
is that page's.`,
		Example: `  lab docs
  lab docs questions
  lab docs --listen 0.0.0.0:8000
  lab docs --write wirelab-docs`,
		Args:              usageArgs(oneOf("page")),
		ValidArgsFunction: completePages,
		RunE: func(cmd *cobra.Command, args []string) error {
			if dir != "" && len(args) > 0 {
				return usageError{errors.New("--write makes all pages, and not one")}
			}
			if dir != "" && cmd.Flags().Changed("listen") {
				return usageError{errors.New("--listen is for pages that are served, and --write serves none")}
			}
			at, err := parseListen(listen, "127.0.0.1:8000")
			if err != nil {
				return err
			}
			site, err := documentation(cmd.Root())
			if err != nil {
				return err
			}
			page := ""
			if len(args) > 0 {
				if page, err = findPage(site, args[0]); err != nil {
					return usageError{err}
				}
			}
			if dir != "" {
				return writeSite(cmd.Context(), cmd.OutOrStdout(), site, dir)
			}
			return serveSite(cmd.Context(), cmd.OutOrStdout(), site, at, page)
		},
	}
	f := cmd.Flags()
	f.StringVar(&listen, "listen", "127.0.0.1:0", "address and port to serve at; port 0 is one that is free")
	f.StringVar(&dir, "write", "", "write the pages to this folder, which must be new or empty")
	must(cmd.RegisterFlagCompletionFunc("listen", cobra.NoFileCompletions))
	must(cmd.MarkFlagDirname("write"))
	return cmd
}

// documentation is the site of the pages that lab carries and of those about its commands.
func documentation(root *cobra.Command) (docsite.Site, error) {
	files := docsite.Files{}
	if err := files.Add(docs.Files); err != nil {
		return nil, err
	}
	if err := commandPages(root, files); err != nil {
		return nil, err
	}
	return docsite.Build(files)
}

// commandPages adds a page for each command.
func commandPages(cmd *cobra.Command, to docsite.Files) error {
	cmd.DisableAutoGenTag = true // no date: the same commands make the same pages
	var page bytes.Buffer
	if err := doc.GenMarkdownCustom(cmd, &page, func(name string) string { return name }); err != nil {
		return fmt.Errorf("describe %s: %w", cmd.CommandPath(), err)
	}
	to[path.Join("commands", strings.ReplaceAll(cmd.CommandPath(), " ", "_")+".md")] = page.Bytes()
	for _, c := range cmd.Commands() {
		if !c.IsAvailableCommand() || c.IsAdditionalHelpTopicCommand() {
			continue
		}
		if err := commandPages(c, to); err != nil {
			return err
		}
	}
	return nil
}

// writeSite writes the pages to a folder of their own, so that nothing of anybody else's is replaced.
func writeSite(ctx context.Context, out io.Writer, site docsite.Site, dir string) error {
	there, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("write the pages: %w", err)
	}
	if len(there) > 0 {
		return fmt.Errorf("write the pages: %s is not empty: name a new folder", dir)
	}
	if err := writePages(ctx, site, dir); err != nil {
		return fmt.Errorf("write the pages: %w", errors.Join(err, clearFolder(dir)))
	}
	fmt.Fprintf(out, "%d files, to begin with %s\n", len(site), filepath.Join(dir, "index.html"))
	return nil
}

func writePages(ctx context.Context, site docsite.Site, dir string) error {
	for name, content := range site {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		file := filepath.Join(dir, filepath.FromSlash(name))
		if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, content, resultMode)); err != nil { //nolint:gosec // for others to read
			return err
		}
	}
	return nil
}

// clearFolder makes a folder as empty as it was: half a site looks like a whole one.
func clearFolder(dir string) error {
	made, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	errs := []error{err}
	for _, each := range made {
		errs = append(errs, os.RemoveAll(filepath.Join(dir, each.Name())))
	}
	return errors.Join(errs...)
}

// pageNames are the pages by what they are called on the command line: their paths, without those of commands.
func pageNames(site docsite.Site) []string {
	var names []string
	for file := range site {
		if name, is := strings.CutSuffix(file, ".html"); is && !strings.HasPrefix(name, "commands/") {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// findPage is the file of a page that is named by its path, as questions, questions.md or walkthroughs/ebpf, by the end of
// that, as ebpf, or by the command that it is about.
func findPage(site docsite.Site, name string) (string, error) {
	name = strings.TrimSuffix(strings.TrimSuffix(strings.TrimPrefix(name, "docs/"), ".html"), ".md")
	for _, file := range []string{name, "walkthroughs/" + name, "commands/lab_" + name} {
		if _, is := site[file+".html"]; is {
			return file + ".html", nil
		}
	}
	names := pageNames(site)
	if near := nearest.Of(name, names); near != "" {
		return "", fmt.Errorf("no page %q: did you mean %s?", name, near)
	}
	return "", fmt.Errorf("no page %q: there are %s", name, strings.Join(names, ", "))
}

func completePages(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	site, err := documentation(cmd.Root())
	if err != nil || len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return pageNames(site), cobra.ShellCompDirectiveNoFileComp
}

// serveSite answers until ctx ends, and says where page is, or the first one where that is empty.
func serveSite(ctx context.Context, out io.Writer, site docsite.Site, at netip.AddrPort, page string) error {
	listener, err := listenAt(ctx, at)
	if err != nil {
		return fmt.Errorf("serve the pages: %w", err)
	}
	server := &http.Server{Handler: site, ReadHeaderTimeout: 5 * time.Second, WriteTimeout: 30 * time.Second, IdleTimeout: time.Minute}
	stop := context.AfterFunc(ctx, func() { _ = server.Close() }) // nothing is under way that matters
	defer stop()
	fmt.Fprintf(out, "the documentation is at http://%s/%s until this command is interrupted\n", listener.Addr(), page)
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve the pages: %w", err)
	}
	return nil
}
