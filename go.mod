module wirelab.dev/wirelab

go 1.26.8
