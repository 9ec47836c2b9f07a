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
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"

	"wirelab.dev/wirelab/docs"
	"wirelab.dev/wirelab/internal/docsite"
)

func newDocsCmd() *cobra.Command {
	var listen, dir string
	cmd := &cobra.Command{
		Use:   "docs",
		Short: "Serve wirelab's documentation, or write it as static pages",
		Long: `docs serves the pages that lab carries, with a reference of its commands, until it is interrupted.
They need no network: a room can read them from one laptop with --listen, and --write makes a
folder of them that a browser opens as it is.`,
		Example: `  lab docs
  lab docs --listen 0.0.0.0:8000
  lab docs --write wirelab-docs`,
		Args: usageArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
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
			if dir != "" {
				return writeSite(cmd.OutOrStdout(), site, dir)
			}
			return serveSite(cmd.Context(), cmd.OutOrStdout(), site, at)
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
func writeSite(out io.Writer, site docsite.Site, dir string) error {
	there, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("write the pages: %w", err)
	}
	if len(there) > 0 {
		return fmt.Errorf("write the pages: %s is not empty: name a new folder", dir)
	}
	for name, content := range site {
		file := filepath.Join(dir, filepath.FromSlash(name))
		if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, content, resultMode)); err != nil { //nolint:gosec // for others to read
			return fmt.Errorf("write the pages: %w", err)
		}
	}
	fmt.Fprintf(out, "%d files, to begin with %s\n", len(site), filepath.Join(dir, "index.html"))
	return nil
}

// serveSite answers until ctx ends.
func serveSite(ctx context.Context, out io.Writer, site docsite.Site, at netip.AddrPort) error {
	listener, err := listenAt(ctx, at)
	if err != nil {
		return fmt.Errorf("serve the pages: %w", err)
	}
	server := &http.Server{Handler: site, ReadHeaderTimeout: 5 * time.Second, WriteTimeout: 30 * time.Second, IdleTimeout: time.Minute}
	stop := context.AfterFunc(ctx, func() { _ = server.Close() }) // nothing is under way that matters
	defer stop()
	fmt.Fprintf(out, "the documentation is at http://%s/ until this command is interrupted\n", listener.Addr())
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve the pages: %w", err)
	}
	return nil
}
