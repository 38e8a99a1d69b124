"""Source `servicetitan`: customers, jobs, invoices and estimates of one tenant."""
