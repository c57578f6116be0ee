"""Tables, tests of significance, figures and the report, all made from run folders."""
