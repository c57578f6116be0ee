"""Tables, tests of significance, figures and the report: what is made of run folders."""
