def write_page(plan):
    pass
