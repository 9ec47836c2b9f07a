// Command unused reports what the packages it is given export and nothing in them uses, their tests and those with
// the tag e2e included: functions, methods, types, variables and constants. What a package exports is in use for
// staticcheck, which looks at one package at a time.
package main

import (
	"errors"
	"fmt"
	"go/ast"
	"go/token"
	"go/types"
	"os"
	"slices"
	"strings"

	"golang.org/x/tools/go/packages"
)

func main() {
	found, err := unused(os.Args[1:])
	if err != nil {
		fmt.Fprintln(os.Stderr, "unused:", err)
		os.Exit(2)
	}
	for _, line := range found {
		fmt.Println(line)
	}
	if len(found) > 0 {
		os.Exit(1)
	}
}

func unused(patterns []string) ([]string, error) {
	loaded, err := packages.Load(&packages.Config{
		Mode:       packages.LoadSyntax,
		Tests:      true,
		BuildFlags: []string{"-tags=e2e"},
	}, patterns...)
	if err != nil {
		return nil, err
	}
	if packages.PrintErrors(loaded) > 0 {
		return nil, errors.New("the packages have errors")
	}
	declared := map[string]token.Position{}
	used := map[string]bool{}
	wanted := map[string]bool{ // by interfaces that are in no package's scope
		"Unwrap":                          true, // package errors
		"IsWatchListSemanticsUnSupported": true, // client-go's informers
	}
	for _, p := range loaded {
		for _, f := range p.Syntax {
			if !ast.IsGenerated(f) && !strings.HasSuffix(p.Fset.File(f.FileStart).Name(), "_test.go") {
				declare(p, f, declared)
			}
			for _, d := range f.Decls {
				use(p, d, used)
			}
			want(f, wanted)
		}
		for _, name := range satisfying(p) {
			used[name] = true
		}
	}
	var found []string
	for name, at := range declared {
		method := name[strings.LastIndex(name, ".")+1:]
		if !used[name] && !wanted[method] {
			found = append(found, fmt.Sprintf("%s: nothing uses %s", at, name))
		}
	}
	slices.Sort(found)
	return found, nil
}

// declare notes what a file exports.
func declare(p *packages.Package, f *ast.File, declared map[string]token.Position) {
	for _, d := range f.Decls {
		for _, id := range declaredBy(d) {
			if obj := p.TypesInfo.Defs[id]; obj != nil && obj.Exported() {
				declared[nameOf(obj)] = p.Fset.Position(id.Pos())
			}
		}
	}
}

func declaredBy(d ast.Decl) (ids []*ast.Ident) {
	switch d := d.(type) {
	case *ast.FuncDecl:
		return []*ast.Ident{d.Name}
	case *ast.GenDecl:
		for _, s := range d.Specs {
			switch s := s.(type) {
			case *ast.TypeSpec:
				ids = append(ids, s.Name)
			case *ast.ValueSpec:
				ids = append(ids, s.Names...)
			}
		}
	}
	return ids
}

// use notes what a declaration uses; a function that calls itself is not used by that.
func use(p *packages.Package, d ast.Decl, used map[string]bool) {
	self := ""
	if f, ok := d.(*ast.FuncDecl); ok {
		self = nameOf(p.TypesInfo.Defs[f.Name])
		if f.Recv != nil { // a type is not used by its methods
			defer func(methodOf string, before bool) {
				if !before {
					delete(used, methodOf)
				}
			}(typeOf(p.TypesInfo.Defs[f.Name]), used[typeOf(p.TypesInfo.Defs[f.Name])])
		}
	}
	ast.Inspect(d, func(n ast.Node) bool {
		if id, ok := n.(*ast.Ident); ok {
			if obj := p.TypesInfo.Uses[id]; obj != nil && nameOf(obj) != self {
				used[nameOf(obj)] = true
			}
		}
		return true
	})
}

// want notes the methods of a file's interfaces, by name alone: their types may have parameters.
func want(f *ast.File, wanted map[string]bool) {
	ast.Inspect(f, func(n ast.Node) bool {
		if i, ok := n.(*ast.InterfaceType); ok {
			for _, m := range i.Methods.List {
				for _, name := range m.Names {
					wanted[name.Name] = true
				}
			}
		}
		return true
	})
}

// nameOf is the same for a declaration and its uses, whatever variant of a package is looked at.
func nameOf(obj types.Object) string {
	if obj == nil || obj.Pkg() == nil {
		return ""
	}
	if f, ok := obj.(*types.Func); ok {
		if t := typeOf(f); t != "" {
			return t + "." + f.Name()
		}
	}
	return obj.Pkg().Path() + "." + obj.Name()
}

// typeOf is the name of the type that a method belongs to, empty for other functions.
func typeOf(obj types.Object) string {
	f, ok := obj.(*types.Func)
	if !ok || f.Signature().Recv() == nil {
		return ""
	}
	t := f.Signature().Recv().Type()
	if ptr, ok := t.(*types.Pointer); ok {
		t = ptr.Elem()
	}
	named, ok := t.(*types.Named)
	if !ok {
		return ""
	}
	return nameOf(named.Obj())
}

// satisfying are the methods by which a package's types are what an interface of others wants.
func satisfying(p *packages.Package) (methods []string) {
	interfaces := []*types.Interface{types.Universe.Lookup("error").Type().Underlying().(*types.Interface)}
	seen := map[*types.Package]bool{}
	var visit func(*types.Package)
	visit = func(in *types.Package) {
		if seen[in] {
			return
		}
		seen[in] = true
		for _, name := range in.Scope().Names() {
			if t, ok := in.Scope().Lookup(name).(*types.TypeName); ok {
				if i, ok := t.Type().Underlying().(*types.Interface); ok && i.NumMethods() > 0 {
					interfaces = append(interfaces, i)
				}
			}
		}
		for _, imported := range in.Imports() {
			visit(imported)
		}
	}
	visit(p.Types)
	for _, of := range append(p.Types.Imports(), p.Types) {
		for _, name := range of.Scope().Names() {
			t, ok := of.Scope().Lookup(name).(*types.TypeName)
			if !ok || types.IsInterface(t.Type()) {
				continue
			}
			named, ok := t.Type().(*types.Named)
			if !ok || named.TypeParams().Len() > 0 || named.NumMethods() == 0 {
				continue
			}
			for _, i := range interfaces {
				if !types.Implements(types.NewPointer(named), i) {
					continue
				}
				for m := range i.Methods() {
					methods = append(methods, nameOf(named.Obj())+"."+m.Name())
				}
			}
		}
	}
	return methods
}
